// SPDX-License-Identifier: Apache-2.0
// Shared ownership of handles: children keep their parents alive, so that handles may be destroyed in any order.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace ic {

/// Base of every handle. Created with one reference, which belongs to the caller of the create function.
class RefCounted {
 public:
  RefCounted() = default;
  RefCounted(const RefCounted &) = delete;
  RefCounted &operator=(const RefCounted &) = delete;

  void retain() const noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
  /// True when this was the last reference: the object must then be deleted.
  bool drop() const noexcept { return count_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

 protected:
  ~RefCounted() = default;

 private:
  mutable std::atomic<int64_t> count_{1};
};

/// One reference to a handle.
template <class T>
class Ref {
 public:
  Ref() = default;
  /// Shares an object that somebody else holds.
  explicit Ref(T *object) noexcept : object_(object) {
    if (object_ != nullptr) object_->retain();
  }
  Ref(const Ref &other) noexcept : Ref(other.object_) {}
  Ref(Ref &&other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref &operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { release(object_); }

  T *get() const noexcept { return object_; }
  T *operator->() const noexcept { return object_; }
  T &operator*() const noexcept { return *object_; }

  static void release(T *object) noexcept {
    if (object != nullptr && object->drop()) delete object;
  }

 private:
  T *object_ = nullptr;
};

}  // namespace ic
