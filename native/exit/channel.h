// SPDX-License-Identifier: Apache-2.0
// What a process and its helper in a private network namespace say to each other, over a SOCK_SEQPACKET pair
// of unix(7) sockets: the helper tells once how it began, then opens a descriptor for each request.
#pragma once

#include <cstdint>
#include <vector>

namespace omerta::exit {

enum class Wanted : uint32_t { tun, socket };

struct Request {
  uint32_t number = 0;  ///< ask() gives it
  Wanted wanted = Wanted::socket;
  int32_t family = 0;  ///< as socket(2) takes it, as are the next two; of a socket alone
  int32_t type = 0;
  int32_t protocol = 0;
  // Where it is bound, when `bound` is not 0; a stream socket listens then.
  uint8_t address[16]{};  ///< of a family's size
  uint16_t port = 0;
  uint8_t bound = 0;
  uint8_t transparent =
      0;  ///< whether it takes what is for any address (IP_TRANSPARENT), with where it was for
};

/// Comes with the descriptors, or without one and with an error. The first has those of the user and of the
/// network namespace, and the number 0.
struct Answer {
  uint32_t number = 0;  ///< of its request
  int32_t error = 0;    ///< errno; 0: done
  char step[28]{};      ///< which step of the beginning failed
};

constexpr int kPatienceMs = 5000;  ///< with a helper that does not answer

/// @returns whether it could be sent; errno otherwise.
bool send_answer(int channel, const Answer& answer, const std::vector<int>& descriptors);

/// Waits for an answer. The descriptors are the caller's. When the helper is gone or silent the error is
/// EPIPE or ETIMEDOUT.
Answer receive_answer(int channel, std::vector<int>& descriptors);

/// One request and its answer; answers to earlier ones, which came too late, are dropped.
/// @returns the descriptor; -1 and errno.
int ask(int channel, const Request& request);

}  // namespace omerta::exit
