// SPDX-License-Identifier: Apache-2.0
#include "engine/sender.h"

namespace omerta::engine {

void Sender::append_rest(const omerta_address& to, const LocalAddress& local, uint8_t* data, size_t size,
                         size_t segment, uint8_t traffic_class) {
  for (size_t added = 0; added < size;) {
    io_->flush(batch_, counters_);
    added += batch_.append(to, local, data + added, size - added, segment, traffic_class);
  }
}

void Sender::send(const session::Endpoint& to, Bytes message, uint8_t traffic_class) {
  const size_t prefix = to.relayed() ? OMERTA_FRAME_HEADER_SIZE : 0;
  const size_t size = prefix + message.size();
  uint8_t* out = arena(size);
  arena_used_to(out + size);
  std::memcpy(out + prefix, message.data(), message.size());
  if (to.relayed()) write_frame_header(out, size, to);
  count_sent(to, 1, size);
  charge(to, size);
  append(to.remote, to.local, out, size, size, traffic_class_.value_or(traffic_class));
}

}  // namespace omerta::engine
