// SPDX-License-Identifier: Apache-2.0
#include "exit/stack_port.h"

#include <utility>

#include "exit/echo.h"
#include "stack/too_big.h"

namespace omerta::exit {
namespace {

/// Of sockets that bring nothing for guests, before the worker has its turn.
constexpr int kRounds = 16;

}  // namespace

StackPort::StackPort(const stack::Settings& settings, const Key32& key, ExitPolicy policy,
                     Nanoseconds (*clock)())
    : policy_(std::move(policy)),
      guests_(policy_),
      clock_(clock),
      tcp_(settings, key, guests_, poller_),
      udp_(key, settings.mtu, guests_, poller_, answers_),
      pings_(key, guests_, poller_, answers_) {}

inner::Port::Taken StackPort::send(std::span<const inner::Gathered> packets) {
  const Nanoseconds now = clock_();
  take_changes();
  for (const inner::Gathered& packet : packets) {
    stack::PacketView view;
    if (stack::parse_packet(packet, view) != stack::PacketError::none) continue;
    stack::Datagrams datagrams;
    if (view.protocol == inner::kTcp)
      tcp_.receive(view, now);
    else if (view.protocol == inner::kUdp && stack::parse_datagrams(view, datagrams))
      udp_.send(datagrams, now);
    else if (answer_ping(view))
      continue;
    else if (const auto big = stack::parse_too_big(view); big.has_value())
      tcp_.stack().too_big(big->flow, big->sequence, big->mtu);
    else
      pings_.send(view, now);
  }
  ring();  // acknowledgments wait: the worker is told as it is of a socket
  return {packets.size(), Stop::none};
}

bool StackPort::answer_ping(const stack::PacketView& packet) {
  const stack::Address to = stack::address_of(packet.ip.destination, packet.ip.address_size);
  if (!policy_.is_own(to)) return false;
  std::vector<uint8_t> reply = echo_reply(packet);
  if (reply.empty()) return false;
  answers_.add(stack::address_of(packet.ip.source, packet.ip.address_size), std::move(reply));
  return true;
}

void StackPort::ring() {
  if (!std::exchange(rung_, true)) poller_.ring();
}

const inner::Received* StackPort::next(Nanoseconds now) {
  if (const inner::Received* packet = tcp_.stack().transmit(now)) return packet;
  if (const inner::Received* packet = udp_.next()) return packet;
  return answers_.next();
}

std::span<const inner::Received> StackPort::receive() {
  const Nanoseconds now = clock_();
  const inner::Received* packet = next(now);
  for (int round = 0; packet == nullptr; round++) {
    tcp_.stack().advance(now);
    const Nanoseconds tidy = std::min({tcp_.tidy(now), udp_.tidy(now), pings_.tidy(now)});
    const bool any = poller_.poll();
    packet = next(now);
    if (packet != nullptr) break;
    if (any && round < kRounds) continue;
    if (!any) {
      poller_.quiet();
      rung_ = false;
      take_changes();
      packet = next(now);  // what ended tells its guest
    }
    if (packet != nullptr) break;
    poller_.wake_at(std::min(tidy, tcp_.stack().deadline()));
    count();
    return {};
  }
  ring();  // until there is nothing more: whoever stops asking before that is told to go on
  return {packet, 1};
}

void StackPort::set_guests(std::vector<Guest> guests) { change(std::move(guests), std::nullopt); }

void StackPort::set_names(std::vector<Names> names) { change(std::nullopt, std::move(names)); }

void StackPort::review() { change(std::nullopt, std::nullopt); }

void StackPort::change(std::optional<std::vector<Guest>> guests, std::optional<std::vector<Names>> names) {
  {
    const std::lock_guard lock(mutex_);
    if (guests.has_value()) new_guests_ = std::move(guests);
    if (names.has_value()) new_names_ = std::move(names);
  }
  changed_ = true;
  poller_.ring();
}

void StackPort::take_changes() {
  if (!changed_.exchange(false)) return;
  std::optional<std::vector<Guest>> guests;
  std::optional<std::vector<Names>> names;
  {
    const std::lock_guard lock(mutex_);
    guests = std::exchange(new_guests_, std::nullopt);
    names = std::exchange(new_names_, std::nullopt);
  }
  if (names.has_value()) guests_.set_names(std::move(*names));
  if (guests.has_value()) guests_.set(*guests);
  tcp_.end_unpermitted();
  udp_.end_unpermitted();
  pings_.end_unpermitted();
}

void StackPort::count() {
  const std::lock_guard lock(mutex_);
  counts_ = {tcp_.open(), udp_.open() + pings_.open(), guests_.refused() + tcp_.stack().counts().at_bound,
             guests_.flows_too_fast(), guests_.datagrams_too_fast()};
}

ExitCounts StackPort::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace omerta::exit
