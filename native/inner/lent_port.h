// SPDX-License-Identifier: Apache-2.0
// A port that outlives the workers that use it, one after the other: what is open in it stays while a worker
// comes and goes.
#pragma once

#include "inner/port.h"

namespace omerta::inner {

class LentPort final : public Port {
 public:
  explicit LentPort(Port& port) : port_(port) {}

  int descriptor() const override { return port_.descriptor(); }
  std::span<const Received> receive() override { return port_.receive(); }
  Taken send(std::span<const Gathered> packets) override { return port_.send(packets); }
  void set_offloads(const Offloads& offloads) override { port_.set_offloads(offloads); }

 private:
  Port& port_;
};

}  // namespace omerta::inner
