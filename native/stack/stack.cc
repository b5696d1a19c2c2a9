// SPDX-License-Identifier: Apache-2.0
#include "stack/stack.h"

#include <utility>

namespace omerta::stack {
namespace {

FlowHash hash_with(const Key32& key, uint64_t use) {
  return FlowHash({load<uint64_t>(key.data()) ^ use, load<uint64_t>(key.data() + 8)});
}

Flow owner_key(const Flow& flow) {
  Flow key;
  key.remote = flow.remote;
  return key;
}

}  // namespace

Stack::Stack(const Settings& settings, Handler& handler, const Key32& key)
    : settings_(settings),
      handler_(handler),
      hash_(hash_with(key, 0)),
      sequence_hash_(hash_with(key, 1)),
      timestamp_hash_(hash_with(key, 2)),
      memory_(settings.memory),
      owners_(16, hash_),
      entries_(16, hash_),
      packet_(new uint8_t[inner::kMaxPacketBytes]) {
  received_ = {&header_, packet_.get(), 0};
}

Stack::~Stack() = default;

/// RFC 6528: a clock of 4 µs, and what only we know of the flow.
Sequence Stack::initial_sequence(const Flow& flow) {
  return static_cast<Sequence>(now_ / 4000) + static_cast<Sequence>(sequence_hash_(flow));
}

/// RFC 7323 5.4: timestamps tell nobody how long the machine is up.
uint32_t Stack::timestamp_offset(const Flow& flow) { return static_cast<uint32_t>(timestamp_hash_(flow)); }

void Stack::receive(const PacketView& packet, Nanoseconds now) {
  at(now);
  sweep();
  Segment segment;
  if (!parse_segment(packet, segment) || segment.flow.local_port == 0 || segment.flow.remote_port == 0) {
    counts_.malformed++;
    return;
  }
  const bool syn = segment.has(kSyn) && !segment.has(kAck) && !segment.has(kRst);
  const auto found = entries_.find(segment.flow);
  Connection* connection = found == entries_.end() ? nullptr : found->second.connection.get();
  if (connection != nullptr && syn && connection->gives_way_to(segment)) {
    connection->crowd_out();
    sweep();
    connection = nullptr;
  }
  if (connection != nullptr)
    connection->segment(segment);
  else if (syn)
    ask(segment);
  else
    answer_unknown(segment);
  sweep();
}

void Stack::ask(const Segment& syn) {
  Connection* connection = add(syn.flow);
  if (connection == nullptr) {
    counts_.at_bound++;
    return answer_unknown(syn);
  }
  connection->asked(syn);
  handler_.asked(*connection);
}

Connection* Stack::connect(const Flow& flow, Nanoseconds now) {
  at(now);
  sweep();
  Connection* connection = entries_.contains(flow) ? nullptr : add(flow);
  if (connection != nullptr) connection->connect();
  return connection;
}

Connection* Stack::add(const Flow& flow) {
  if (connections_ >= settings_.connections || half_open_ >= settings_.half_open) return nullptr;
  const auto [owner, created] = owners_.try_emplace(owner_key(flow), settings_.owner_memory, memory_);
  Owner& of = owner->second;
  if (of.connections >= settings_.owner_connections || of.half_open >= settings_.owner_half_open)
    return nullptr;
  of.entries++;
  of.connections++;
  of.half_open++;
  connections_++;
  half_open_++;
  Surroundings& around = *this;
  Entry entry{&of, std::make_unique<Connection>(around, flow, of.memory)};
  return entries_.emplace(flow, std::move(entry)).first->second.connection.get();
}

Connection* Stack::find(const Flow& flow) {
  const auto found = entries_.find(flow);
  if (found == entries_.end() || found->second.connection->gone() || found->second.connection->lingers())
    return nullptr;
  return found->second.connection.get();
}

/// RFC 9293 3.10.7.1.
void Stack::answer_unknown(const Segment& segment) {
  counts_.unknown++;
  if (segment.has(kRst)) return;
  Segment reset;
  reset.flow = segment.flow;
  reset.flags = kRst;
  if (segment.has(kAck)) {
    reset.sequence = segment.acknowledgment;
  } else {
    reset.flags |= kAck;
    reset.acknowledgment = segment.end();
  }
  send_alone(reset);
}

void Stack::send_alone(const Segment& segment) {
  if (alone_.size() >= kMaxAlone) {
    counts_.answers_dropped++;
    return;
  }
  alone_.push_back(segment);
}

void Stack::too_big(const Flow& flow, Sequence sequence, size_t mtu) {
  if (Connection* connection = find(flow); connection != nullptr) connection->path_mtu(sequence, mtu);
}

void Stack::changed(Connection& connection) {
  if (connection.gone()) {
    over_.push_back(connection.flow());
    return;
  }
  if (!connection.in_line) {
    connection.in_line = true;
    line_.push_back(&connection);
  }
}

void Stack::no_longer_half_open(Connection& connection) {
  const auto found = entries_.find(connection.flow());
  if (found == entries_.end() || !std::exchange(found->second.half_open, false)) return;
  found->second.owner->half_open--;
  half_open_--;
}

/// Connections in TIME-WAIT have no part in the bounds, but one of their own: the oldest gives way.
void Stack::linger(const Flow& flow, Entry& entry) {
  if (entry.lingering) return;
  entry.lingering = true;
  entry.owner->connections--;
  connections_--;
  lingering_.push_back(flow);
  while (lingering_.size() > settings_.connections) {
    const auto oldest = entries_.find(lingering_.front());
    lingering_.pop_front();
    if (oldest != entries_.end() && oldest->second.lingering) oldest->second.connection->crowd_out();
  }
}

void Stack::short_of_memory(Connection& connection) {
  if (std::exchange(connection.is_short, true)) return;
  short_.push_back(connection.flow());
}

void Stack::tell_of_memory() {
  if (short_.empty() || given_ == memory_.given()) return;
  given_ = memory_.given();
  for (const Flow& flow : std::exchange(short_, {})) {
    Connection* connection = find(flow);
    if (connection != nullptr && std::exchange(connection->is_short, false)) handler_.writable(*connection);
  }
}

/// Removes what is over.
void Stack::sweep() {
  while (!over_.empty()) {
    const Flow flow = over_.back();
    over_.pop_back();
    const auto found = entries_.find(flow);
    if (found == entries_.end() || !found->second.connection->gone()) continue;
    Entry& entry = found->second;
    Connection& connection = *entry.connection;
    no_longer_half_open(connection);
    if (!entry.lingering) {
      entry.owner->connections--;
      connections_--;
    }
    timers_.cancel(connection);
    if (connection.in_line) std::erase(line_, &connection);
    Owner& owner = *entry.owner;
    entries_.erase(found);
    if (--owner.entries == 0) owners_.erase(owner_key(flow));
    while (!lingering_.empty() && !entries_.contains(lingering_.front())) lingering_.pop_front();
  }
}

void Stack::advance(Nanoseconds now) {
  at(now);
  sweep();
  tell_of_memory();
  while (Connection* due = timers_.take_due(now_)) {
    due->expired();
    changed(*due);  // its deadline is another
    sweep();
  }
}

const inner::Received* Stack::transmit(Nanoseconds now) {
  at(now);
  sweep();
  tell_of_memory();
  if (!alone_.empty()) {
    const Segment segment = alone_.front();
    alone_.pop_front();
    return write(segment, 0, 1, {});
  }
  while (!line_.empty()) {
    Connection& connection = *line_.front();
    line_.pop_front();
    const std::optional<Connection::Outgoing> next = connection.next();
    if (next.has_value()) {
      line_.push_back(&connection);  // perhaps it has more, when the others have had their turn
      return write(next->segment, next->payload, next->mss, std::span(next->parts, next->count));
    }
    connection.in_line = false;
    const Nanoseconds at = connection.deadline();
    if (at == kNever)
      timers_.cancel(connection);
    else if (connection.timer.place == session::Timer::kIdle || connection.timer.due != at)
      timers_.set(connection, at);
    if (connection.lingers()) linger(connection.flow(), entries_.at(connection.flow()));
  }
  sweep();
  return nullptr;
}

const inner::Received* Stack::write(const Segment& segment, size_t payload, size_t mss,
                                    std::span<const iovec> parts) {
  const size_t headers = write_segment(packet_.get(), segment, payload, mss, header_);
  Scattered(parts, 0, payload).copy_to(packet_.get() + headers);
  received_.size = headers + payload;
  return &received_;
}

}  // namespace omerta::stack
