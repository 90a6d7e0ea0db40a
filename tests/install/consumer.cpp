// SPDX-License-Identifier: Apache-2.0
// A C++ program of somebody else's: uses the library beside its own standard library and its own exceptions.
#include <indexcache.h>

#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

void check(bool condition, const std::string &what) {
  if (!condition) throw std::logic_error(what);
}

std::string last_error() {
  std::vector<char> text(512);
  ic_last_error(text.data(), text.size());
  return text.data();
}

void make_and_break_a_context() {
  ic_context_desc desc = IC_CONTEXT_DESC_INIT;
  ic_context *context = nullptr;
  desc.backend = IC_BACKEND_CPU;
  desc.num_threads = -1;
  check(ic_context_create(&desc, &context) != IC_OK, "a negative number of threads was accepted");
  check(last_error().find("num_threads") != std::string::npos, "message: " + last_error());
  desc.num_threads = 1;
  check(ic_context_create(&desc, &context) == IC_OK, "no CPU context: " + last_error());
  ic_context_destroy(context);
}

}  // namespace

int main() {
  try {
    make_and_break_a_context();
    std::thread(make_and_break_a_context).join();
    std::vector<int>().at(1);
  } catch (const std::out_of_range &expected) {
    std::cout << "C++ consumer: " << expected.what() << '\n';
    return 0;
  } catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
  }
  return 1;
}
