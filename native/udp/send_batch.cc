// SPDX-License-Identifier: Apache-2.0
#include "udp/send_batch.h"

#include <algorithm>
#include <cstring>

namespace omerta::udp {
namespace {

/// Spreads destinations over the places of SendBatch::recent_; a collision costs a message, no more.
size_t place_of(const omerta_address& to) {
  const uint64_t mixed = (omerta_load64(to.ip) ^ omerta_load64(to.ip + 8) ^ to.port) * 0x9E3779B97F4A7C15u;
  return mixed >> 57;  // 7 bits: SendBatch::kRecent
}

bool same(const omerta_address& a, const omerta_address& b) {
  return a.port == b.port && omerta_load64(a.ip) == omerta_load64(b.ip) &&
         omerta_load64(a.ip + 8) == omerta_load64(b.ip + 8);
}

}  // namespace

SendBatch::SendBatch(bool coalesce)
    : coalesce_(coalesce),
      entries_(new Entry[kMessages]()),
      headers_(new mmsghdr[kMessages]()),
      addresses_(new sockaddr_storage[kMessages]()),
      controls_(new Control[kMessages]()) {
  recent_.fill(UINT8_MAX);
}

SendBatch::~SendBatch() = default;

/// The message last begun for a destination, if it may still grow; nullptr when there is none.
SendBatch::Entry* SendBatch::recent(const omerta_address& to, const LocalAddress& local,
                                    uint8_t traffic_class) const {
  const uint8_t index = recent_[place_of(to)];
  if (!coalesce_ || index >= count_) return nullptr;
  Entry& entry = entries_[index];
  const bool alike = !entry.alone && same(entry.to, to) &&
                     std::memcmp(&entry.local, &local, sizeof local) == 0 &&
                     entry.traffic_class == traffic_class;
  return alike ? &entry : nullptr;
}

bool SendBatch::would_join(const omerta_address& to, const LocalAddress& local, size_t size,
                           uint8_t traffic_class) const {
  const Entry* entry = recent(to, local, traffic_class);
  return entry != nullptr && size <= entry->segment && entry->size == entry->segment * entry->segments &&
         entry->segments < max_segments_ && entry->size + size <= kMaxMessageBytes;
}

/// Adds as many of the datagrams as the message can take; returns their bytes.
size_t SendBatch::extend(Entry& entry, uint8_t* data, size_t size, size_t segment) {
  const size_t next = std::min(segment, size);
  if (entry.segments == 0)
    entry.segment = next;
  else if (next > entry.segment || entry.size != entry.segment * entry.segments)
    return 0;  // every segment but the last has the same size, so a shorter one closes the message
  size_t room = entry.size < kMaxMessageBytes ? (kMaxMessageBytes - entry.size) / next : 0;
  if (entry.segments == 0) room = std::max<size_t>(room, 1);
  if (next < entry.segment || !coalesce_) room = std::min<size_t>(room, 1);
  room = std::min(room, max_segments_ - entry.segments);
  if (room == 0) return 0;
  const size_t bytes = std::min(size, room * next);
  iovec* last = entry.pieces == 0 ? nullptr : &entry.piece[entry.pieces - 1];
  if (last != nullptr && static_cast<uint8_t*>(last->iov_base) + last->iov_len == data)
    last->iov_len += bytes;
  else
    entry.piece[entry.pieces++] = {data, bytes};
  const size_t count = (bytes + next - 1) / next;
  joined_ += entry.segments == 0 ? count - 1 : count;
  entry.size += bytes;
  entry.segments += count;
  return bytes;
}

size_t SendBatch::append(const omerta_address& to, const LocalAddress& local, uint8_t* data, size_t size,
                         size_t segment, uint8_t traffic_class) {
  if (size == 0) return 0;
  size_t added = 0;
  if (Entry* entry = recent(to, local, traffic_class); entry != nullptr)
    added = extend(*entry, data, size, segment);
  while (added < size && count_ < kMessages)
    added += extend(begin(to, local, traffic_class, false), data + added, size - added, segment);
  return added;
}

size_t SendBatch::append_alone(const omerta_address& to, const LocalAddress& local, uint8_t* data,
                               size_t size, size_t segment, uint8_t traffic_class) {
  size_t added = 0;
  while (added < size && count_ < kMessages) {
    const size_t next = std::min(segment, size - added);
    added += extend(begin(to, local, traffic_class, true), data + added, next, next);
  }
  return added;
}

SendBatch::Entry& SendBatch::begin(const omerta_address& to, const LocalAddress& local, uint8_t traffic_class,
                                   bool alone) {
  recent_[place_of(to)] = static_cast<uint8_t>(count_);
  Entry& entry = entries_[count_++];
  entry.to = to;
  entry.local = local;
  extra_ports_ |= local.port != 0;
  entry.traffic_class = traffic_class;
  entry.alone = alone;
  entry.size = entry.segments = entry.pieces = 0;
  return entry;
}

}  // namespace omerta::udp
