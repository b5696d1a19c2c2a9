// SPDX-License-Identifier: Apache-2.0
// TCP connections joined in pairs: what comes by either goes out by the other, each direction ends by itself
// (half-close), and who reads slowly is sent to slowly. Nothing is kept here meanwhile: what the other
// connection does not take stays in the socket it came by, and the kernel closes that one's window.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "exit/poller.h"

namespace omerta::exit {

class StreamRelay {
 public:
  /// A pair is no more. cut: it was cut off in one of its connections, and both are reset as soon as nobody
  /// else has them open; otherwise both have ended in both directions. Called on the relay's thread.
  using Ended = std::function<void(uint64_t pair, bool cut)>;

  /// @param idle a pair by which nothing came for so long is cut off
  /// @throws std::system_error
  StreamRelay(Ended ended, Nanoseconds idle);
  /// Cuts all of them off, without a word.
  ~StreamRelay();
  StreamRelay(const StreamRelay&) = delete;
  StreamRelay& operator=(const StreamRelay&) = delete;

  // Any thread.

  /// Joins two connected sockets, of which it opens descriptors of its own: nobody else reads or writes by
  /// them from now on. @throws std::system_error: no descriptor is left, or it is no TCP socket
  uint64_t join(int a, int b);
  /// Cuts a pair off, and says nothing of it; nothing happens when it has ended.
  void cut(uint64_t pair);

 private:
  struct Pair;
  struct End;
  /// What another thread asked for: a new pair, or one to cut off.
  struct Request {
    uint64_t pair;
    std::unique_ptr<Pair> begun;
  };

  void run();
  void take_requests();
  void add(std::unique_ptr<Pair> pair);
  void pump(Pair& pair, int from);
  void watch(Pair& pair);
  void end(Pair& pair, bool is_cut, bool is_told);
  void end_idle(Nanoseconds now);

  const Ended ended_;
  const Nanoseconds idle_;
  Poller poller_;
  std::vector<uint8_t> buffer_;
  std::unordered_map<uint64_t, std::unique_ptr<Pair>> pairs_;
  std::vector<std::unique_ptr<Pair>> over_;  ///< until the round is over: somebody may be at them
  Nanoseconds tidied_ = 0;

  std::mutex mutex_;
  std::vector<Request> requests_;
  uint64_t last_pair_ = 0;
  bool stopped_ = false;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace omerta::exit
