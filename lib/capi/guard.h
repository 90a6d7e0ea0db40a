// SPDX-License-Identifier: Apache-2.0
// The one boundary between C++ and C: no exception leaves an exported function.
#pragma once

#include <exception>
#include <new>
#include <system_error>

#include "capi/error.h"
#include "core/failure.h"
#include "indexcache.h"

namespace ic {

/// Runs a body that throws on failure and turns what it throws into a status and the thread's error text.
template <class Body>
ic_status guarded(Body &&body) noexcept {
  try {
    body();
    return IC_OK;
  } catch (const Failure &failure) {
    set_last_error(failure.text());
    return failure.status();
  } catch (const std::bad_alloc &) {
    set_last_error("host memory could not be allocated");
    return IC_ERROR_OUT_OF_MEMORY;
  } catch (const std::system_error &error) {  // threads that cannot be started
    set_last_error(error.what());
    return IC_ERROR_OUT_OF_MEMORY;
  } catch (const std::exception &error) {
    set_last_error(error.what());
    return IC_ERROR_INTERNAL;
  } catch (...) {
    set_last_error("an exception of unknown type");
    return IC_ERROR_INTERNAL;
  }
}

}  // namespace ic
