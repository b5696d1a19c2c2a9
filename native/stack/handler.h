// SPDX-License-Identifier: Apache-2.0
// Who uses a stack: what it is told of connections. A connection may be used, finished or aborted from within
// any of these.
#pragma once

#include "stack/scattered.h"

namespace omerta::stack {

class Connection;

enum class Ended : uint8_t {
  finished,     ///< both sides have sent all, and it has arrived
  reset,        ///< by the other side
  refused,      ///< by the other side, before it was there
  timed_out,    ///< nothing came back
  crowded_out,  ///< others need its place
};

class Handler {
 public:
  virtual ~Handler() = default;
  /// Somebody wants a connection: accept() or refuse() it, now or later. Until then it is half open.
  virtual void asked(Connection& connection) = 0;
  /// It is there: it may be written to.
  virtual void opened(Connection& connection) = 0;
  /// The next bytes. @returns how many of the first were taken; the others are kept until resume().
  virtual size_t data(Connection& connection, const Scattered& bytes) = 0;
  /// After all of its data: nothing more comes.
  virtual void ended(Connection& connection) = 0;
  /// What was written is acknowledged, at least in part: space() may have room again.
  virtual void writable(Connection& connection) = 0;
  /// It is no more, and is not to be used after this; not told of what the user aborted or refused.
  virtual void closed(Connection& connection, Ended why) = 0;
};

}  // namespace omerta::stack
