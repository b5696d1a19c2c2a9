// SPDX-License-Identifier: Apache-2.0
// A whole engine over loopback and who it does not know: garbage is met with silence, and each answer, event
// and message has its budget.
#include <sodium.h>

#include "check.h"
#include "engine_fixture.h"

namespace {

using namespace omerta;
using namespace omerta::engine;
using namespace omerta::check;

void garbage_is_counted_and_answered_with_silence() {
  Engine engine(settings(1));
  Engine other(settings(2));
  uint8_t bytes[2000];
  const omerta_address to = loopback(engine.port());
  constexpr int kCount = 5000;
  for (int i = 0; i < kCount; i++) {
    const size_t size = randombytes_uniform(1500);
    randombytes_buf(bytes, size);
    // Half of it looks like something.
    if (size > 8 && i % 2 == 0) bytes[0] = static_cast<uint8_t>("\x6f\x01\x02\x03\x04\x00"[i / 2 % 6]);
    if (size > 8 && i % 4 == 0) bytes[1] = bytes[2] = bytes[3] = 0;
    other.send_frame(to, Bytes(bytes, size));
    if (i % 64 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(wait_for([&] { return total(engine, Counter::rx_datagrams) >= kCount; }));
  CHECK(total(engine, Counter::tx_datagrams) == 0);
  uint64_t reasons = 0;
  for (size_t i = 0; i < OMERTA_DROP_REASON_COUNT; i++)
    reasons += dropped(engine, static_cast<omerta_drop_reason>(i));
  reasons += total(engine, Counter::drop_bad_mac1) + total(engine, Counter::drop_unknown_index);
  CHECK(wait_for([&] {
    reasons = total(engine, Counter::drop_bad_mac1) + total(engine, Counter::drop_unknown_index);
    for (size_t i = 0; i < OMERTA_DROP_REASON_COUNT; i++)
      reasons += dropped(engine, static_cast<omerta_drop_reason>(i));
    return reasons == total(engine, Counter::rx_datagrams);
  }));
  CHECK(engine.sessions().size() == 0);
}

void a_stun_request_is_answered_within_its_budget() {
  Engine engine(settings(1));
  Engine client(settings(2));
  uint8_t request[20] = {0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};
  for (int i = 0; i < 200; i++) client.send_frame(loopback(engine.port()), request);
  CHECK(wait_for(
      [&] { return total(engine, Counter::stun_answered) + total(engine, Counter::drop_stun_rate) == 200; }));
  CHECK(total(engine, Counter::stun_answered) >= 20 && total(engine, Counter::stun_answered) < 60);
}

void stun_can_be_switched_off() {
  EngineSettings silent = settings(1);
  silent.stun_per_second = 0;
  Engine engine(silent);
  Engine client(settings(2));
  const uint8_t request[20] = {0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42};
  client.send_frame(loopback(engine.port()), request);
  CHECK(wait_for([&] { return total(engine, Counter::drop_stun_rate) == 1; }));
  CHECK(total(engine, Counter::tx_datagrams) == 0);
}

/// A request any stranger may send, for an engine with the contact leg contact_leg().
std::array<uint8_t, 128> stranger_frame() {
  std::array<uint8_t, 128> frame = {OMERTA_FRAME_MAGIC, OMERTA_KIND_ADMISSION_REQUEST, 1};
  const __u64 key[2] = {0, 0};
  const __u64 tag = omerta_frame_tag(key, frame.data(), frame.size());
  std::memcpy(frame.data() + 8, &tag, 8);
  return frame;
}

omerta_leg contact_leg() {
  omerta_leg contact{};
  contact.leg_id = OMERTA_CONTACT_LEG;
  contact.action = OMERTA_LEG_CONTROL;
  contact.flags = OMERTA_LEG_ANY_SOURCE;
  return contact;
}

void control_frames_of_strangers_are_budgeted() {
  Engine engine(settings(1));
  CHECK(engine.install_legs({contact_leg()}));
  const auto frame = stranger_frame();
  uint64_t sent = 0;
  // Twenty sources, each of a site of its own, that ask for more together than all of them may.
  for (int host = 2; host < 22; host++) {
    EngineSettings from = settings(2);
    from.bind = "127." + std::to_string(host) + ".0.1";
    Engine client(from);
    for (int i = 0; i < 20; i++, sent++) client.send_frame(loopback(engine.port()), frame);
    CHECK(wait_for([&] {
      return total(engine, Counter::control_frames) + total(engine, Counter::drop_control_rate) == sent;
    }));
  }
  CHECK(total(engine, Counter::control_frames) >= 25 && total(engine, Counter::drop_control_rate) >= 200);
}

void a_source_cannot_take_all_of_the_strangers_budget() {
  EngineSettings generous = settings(1);
  generous.control_frames_per_second = 1600;  // 400 at once, 100 of them of one source
  Engine engine(generous);
  CHECK(engine.install_legs({contact_leg()}));
  const auto frame = stranger_frame();
  Engine greedy(settings(2));
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 2000; i++) greedy.send_frame(loopback(engine.port()), frame);
  CHECK(wait_for([&] { return total(engine, Counter::drop_control_rate) > 500; }));
  const uint64_t taken = total(engine, Counter::control_frames);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  CHECK(static_cast<double>(taken) <= 101 + 200 * elapsed.count());
  EngineSettings elsewhere = settings(3);
  elsewhere.bind = "127.0.0.2";
  Engine other(elsewhere);
  for (int i = 0; i < 50; i++) other.send_frame(loopback(engine.port()), frame);
  CHECK(wait_for([&] { return total(engine, Counter::control_frames) >= taken + 50; }));
}

void a_site_cannot_take_all_of_the_strangers_budget() {
  EngineSettings generous = settings(1);
  generous.control_frames_per_second = 1600;  // 400 at once, 200 of them of one site, 100 of one source
  Engine engine(generous);
  CHECK(engine.install_legs({contact_leg()}));
  std::vector<std::unique_ptr<Engine>> sources;
  for (int host = 2; host < 10; host++) {
    EngineSettings from = settings(2);
    from.bind = "127.7.0." + std::to_string(host);
    sources.push_back(std::make_unique<Engine>(from));
  }
  const auto frame = stranger_frame();
  const auto begin = std::chrono::steady_clock::now();
  uint64_t sent = 0;
  for (const std::unique_ptr<Engine>& greedy : sources) {
    for (int i = 0; i < 100; i++, sent++) greedy->send_frame(loopback(engine.port()), frame);
    CHECK(wait_for([&] {
      return total(engine, Counter::control_frames) + total(engine, Counter::drop_control_rate) == sent;
    }));
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  CHECK(static_cast<double>(total(engine, Counter::control_frames)) <= 201 + 400 * elapsed.count());
}

/// As long as a peer has a session, and for ten minutes after, strangers cannot keep it from asking anew.
void a_known_address_is_heard_when_strangers_used_up_theirs() {
  for (const bool by_a_leg : {false, true}) {
    EngineSettings poor = settings(1);
    poor.control_frames_per_second = 1;
    Engine engine(poor);
    CHECK(engine.install_legs({contact_leg()}));
    EngineSettings from = settings(2);
    from.bind = "127.9.0.1";
    Engine member(from);
    if (by_a_leg) {
      omerta_address source = loopback(9);
      source.ip[13] = 9;
      CHECK(engine.install_legs({leg(7, OMERTA_LEG_CONTROL, 1, source, source, 0, 0)}));
    } else {
      engine.set_peers({peer(2, std::nullopt)});
      member.set_peers({peer(1, direct(engine))});
      CHECK(member.send_control(public_key(1), kMessage));
      CHECK(wait_for([&] { return total(engine, Counter::control_messages) == 1; }));
    }
    const auto frame = stranger_frame();
    EngineSettings elsewhere = settings(3);
    elsewhere.bind = "127.8.0.1";
    Engine stranger(elsewhere);
    for (int i = 0; i < 50; i++) stranger.send_frame(loopback(engine.port()), frame);
    CHECK(wait_for([&] { return total(engine, Counter::drop_control_rate) > 40; }));
    const uint64_t before = total(engine, Counter::control_frames);
    for (int i = 0; i < 100; i++) member.send_frame(loopback(engine.port()), frame);
    CHECK(wait_for([&] { return total(engine, Counter::control_frames) == before + 100; }));
  }
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  with_each_io([] {
    RUN(garbage_is_counted_and_answered_with_silence);
    RUN(a_stun_request_is_answered_within_its_budget);
    RUN(stun_can_be_switched_off);
    RUN(control_frames_of_strangers_are_budgeted);
    RUN(a_source_cannot_take_all_of_the_strangers_budget);
    RUN(a_site_cannot_take_all_of_the_strangers_budget);
    RUN(a_known_address_is_heard_when_strangers_used_up_theirs);
  });
  return omerta::check::finish();
}
