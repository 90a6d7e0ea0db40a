// SPDX-License-Identifier: Apache-2.0
// Runs the program tiny_lm as a user would, in a folder of its own.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "files.h"
#include "golden.h"

namespace golden {

/// What a run left behind.
struct Run {
  int status = -1;
  std::string out;
  std::string err;
};

/// A folder that goes with the object; holds a copy of the model and what the test writes.
class Sandbox {
 public:
  Sandbox() {
    std::string name = (std::filesystem::temp_directory_path() / "tiny_lm.XXXXXX").string();
    folder_ = ::mkdtemp(name.data()) != nullptr ? name : "";
    std::filesystem::copy(model_folder(), model(), std::filesystem::copy_options::recursive);
  }
  ~Sandbox() { std::filesystem::remove_all(folder_); }
  Sandbox(const Sandbox &) = delete;
  Sandbox &operator=(const Sandbox &) = delete;

  std::string model() const { return folder_ + "/model"; }
  std::string path(const std::string &name) const { return folder_ + "/" + name; }

  std::string write(const std::string &name, const std::string &bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }

  /// Runs it there, on the copy of the model and the device of these tests; `arguments` is shell text, `environment`
  /// assignments in front of the command.
  Run run(const std::string &arguments, const std::string &environment = "") const {
    const std::string command = "cd '" + folder_ + "' && " + environment + " '" +
                                std::filesystem::absolute(program()).string() + "' --model model --device " +
                                device_option() + " " + arguments + " >stdout.txt 2>stderr.txt </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, tiny_lm::read_file(path("stdout.txt")),
            tiny_lm::read_file(path("stderr.txt"))};
  }

 private:
  std::string folder_;
};

}  // namespace golden
