// SPDX-License-Identifier: Apache-2.0
// The traffic of the relay benchmark, known to the generator, the plain forwarders and the relay's leg
// table: the numbers of legs.h.
#pragma once

#include "legs.h"
#include "sockets.h"

namespace omerta::bench {

constexpr uint16_t kFirstClientPort = BENCH_FIRST_CLIENT_PORT;
constexpr uint8_t kEpoch = BENCH_EPOCH;
constexpr uint8_t kNextEpoch = BENCH_NEXT_EPOCH;
constexpr size_t kSequenceAt = BENCH_SEQUENCE_AT;
constexpr size_t kRunAt = BENCH_RUN_AT;
constexpr size_t kTimeAt = BENCH_TIME_AT;
constexpr size_t kMinimumSize = BENCH_MINIMUM_SIZE;
constexpr int kBufferBytes = 7 << 20;  ///< what the engine asks for

}  // namespace omerta::bench
