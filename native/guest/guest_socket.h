// SPDX-License-Identifier: Apache-2.0
// The unix stream socket to which QEMU connects the network device of a virtual machine. One connection at a
// time: the next one waits until it has ended. It knows bytes and frames, and nothing of what is in them, and
// counts them by itself: what the gateway says of frames can be held against it.
//
// It outlives the engine that uses it, so that a virtual machine stays connected while another takes its
// place.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <optional>
#include <string>

#include "guest/frame_reader.h"

namespace omerta::guest {

struct SocketCounts {
  bool connected = false;
  uint64_t connections = 0;  ///< that there were
  uint64_t refused = 0;      ///< of another user than the one it is for
  uint64_t bad_lengths = 0;  ///< connections that were closed for a length no frame has
  uint64_t bytes_read = 0, bytes_written = 0;
  uint64_t frames_read = 0, frames_written = 0;  ///< since begin_counts()
};

class GuestSocket {
 public:
  /// Binds and listens; a socket nobody listens on any more is replaced. uid: who alone may connect; nullopt:
  /// whom the file's mode (0600) permits. @throws StepFailed
  GuestSocket(std::string path, std::optional<uint32_t> uid);
  ~GuestSocket() { close(); }
  GuestSocket(const GuestSocket&) = delete;
  GuestSocket& operator=(const GuestSocket&) = delete;

  const std::string& path() const { return path_; }
  SocketCounts counts() const;  ///< any thread
  /// Until the next use nothing is heard or said any more, and the file is gone. No worker runs.
  void close();

  // The rest is for one thread at a time: that of the worker.

  /// Frames are counted from here.
  void begin_counts();
  /// Readable when there is something to do (epoll(7)).
  int descriptor() const { return epoll_; }
  /// Takes what has arrived, or a new connection. false: there is nothing now. Frames handed out before are
  /// gone.
  bool fill();
  /// As FrameReader::next. A connection whose stream is broken is closed.
  std::span<uint8_t> next();
  /// Writes frames, each of `parts[i]` pieces one after the other in `pieces`, with its length in front. What
  /// the guest does not take at once waits, up to a bound. @returns how many were taken.
  size_t write(std::span<const iovec> pieces, std::span<const size_t> parts);
  /// Writes what waits, as far as the guest takes it.
  void flush();
  /// Readable until quiet(); any thread.
  void ring();
  void quiet();

 private:
  bool accept_next();
  void end_connection();
  void keep(std::span<const iovec> pieces, size_t skip);
  void watch_connection();

  const std::string path_;
  const std::optional<uint32_t> uid_;
  int epoll_ = -1, listener_ = -1, bell_ = -1, connection_ = -1;
  FrameReader reader_;
  bool dry_ = true;  ///< all that had arrived was taken
  std::vector<uint8_t> waiting_;
  size_t waiting_from_ = 0;
  bool watches_room_ = false;
  std::atomic<bool> connected_ = false;
  std::atomic<uint64_t> connections_ = 0, refused_ = 0, bad_lengths_ = 0, bytes_read_ = 0, bytes_written_ = 0,
                        frames_read_ = 0, frames_written_ = 0;
};

}  // namespace omerta::guest
