// SPDX-License-Identifier: Apache-2.0
// The start-up self-test: packets of every kind the program forwards, drops and passes, run through it
// in this kernel (BPF_PROG_TEST_RUN) and compared, byte by byte, with packets built from scratch.
#pragma once

#include <functional>

struct omerta_xdp_settings;

namespace omerta::xdp {

/// @param spoil changes the settings of the program under test, to see that it is noticed.
/// @returns how many packets were run. @throws XdpError self_test naming the packet that came out wrong,
/// or what loading a program throws.
int self_test(const std::function<void(omerta_xdp_settings&)>& spoil = {});

}  // namespace omerta::xdp
