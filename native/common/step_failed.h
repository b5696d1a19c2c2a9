// SPDX-License-Identifier: Apache-2.0
// A system call that failed while something was opened or changed, for the control plane to word
// (ts/engine/native/open-failure.ts).
#pragma once

#include <string>
#include <system_error>

namespace omerta {

class StepFailed : public std::system_error {
 public:
  /// @param error   errno
  /// @param step    a literal, one of NativeStep in ts/engine/native/native-addon.ts
  /// @param subject the interface, address or file it was tried with
  StepFailed(int error, const char* step, std::string subject = {})
      : std::system_error(error, std::generic_category(), subject.empty() ? step : step + (' ' + subject)),
        step_(step),
        subject_(std::move(subject)) {}

  const char* step() const { return step_; }
  const std::string& subject() const { return subject_; }

 private:
  const char* step_;
  std::string subject_;
};

}  // namespace omerta
