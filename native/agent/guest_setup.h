// SPDX-License-Identifier: Apache-2.0
// What makes a machine that a kernel just booted one in which commands run.
#pragma once

#include <cstdint>
#include <span>

namespace omerta::agent {

/// File systems, modules in the order of their names, the loopback interface. What fails is said on the
/// console.
void set_up_guest();

/// The virtio-serial port named `omerta.command`, non-blocking, once the host is at its other end.
/// @returns -1 when there is none within 30 s
int open_command_port();

/// Gives the kernel randomness of the host, which counts as such.
void add_randomness(std::span<const uint8_t> seed);

}  // namespace omerta::agent
