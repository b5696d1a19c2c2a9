// SPDX-License-Identifier: Apache-2.0
// WireGuard messages of strangers: whatever arrives, there is no crash, no state, and never an answer
// larger than the message. The table has one peer and a handshake with it under way. The input is cut into
// messages, each led by a length byte; in those of even length mac1 is made good and what answers a
// handshake is addressed to the one under way, because no fuzzer would find either and what lies behind
// wants reaching.
#include <sodium.h>

#include <algorithm>
#include <cstdlib>

#include "crypto/blake2s.h"
#include "session/session_table.h"

using namespace omerta;
using namespace omerta::session;

namespace {

class CountingOutput final : public SessionOutput {
 public:
  void send(const Endpoint&, Bytes message, uint8_t) override { bytes += message.size(); }
  void session_established(Peer&, const Endpoint&) override { std::abort(); }
  void endpoint_changed(Peer&) override { std::abort(); }
  void path_needed(Peer&) override {}
  void session_lost(Peer&) override {}
  void suite_step(SuiteStep) override { std::abort(); }
  void path_event(Peer&, const PathEvent&) override { std::abort(); }
  void path_duplicate() override { std::abort(); }
  size_t bytes = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool ready = sodium_init() >= 0;
  if (!ready) std::abort();
  static uint64_t random_state = 1;
  static SessionTable table(
      [] {
        Key32 key;
        key.fill(1);
        return key;
      }(),
      8, 1,
      {[](std::span<uint8_t> out) {
         for (uint8_t& byte : out)
           byte = static_cast<uint8_t>((random_state = random_state * 6364136223846793005u + 1) >> 33);
       },
       [] { return Timestamp{}; }});
  static Nanoseconds now = kSecond;
  CountingOutput out;
  static const Key32 peer_key = [&out] {
    PeerSettings settings;
    Key32 secret;
    secret.fill(2);
    settings.public_key = public_key_of(secret);
    settings.endpoint.emplace();
    settings.endpoint->remote.port = 2;
    if (!table.set_peers({settings}, now, out)) std::abort();
    return settings.public_key;
  }();
  now += kSecond;
  if (!table.start_handshake(peer_key, now, out)) std::abort();
  const auto pending_index = [] {
    uint32_t index = 0;
    table.for_each([&](Peer& peer) { index = peer.initiation_pending ? peer.handshake.local_index : 0; });
    return index;
  };
  const uint32_t pending = pending_index();
  while (size > 1) {
    const size_t length = std::min<size_t>(data[0], size - 1);
    std::vector<uint8_t> copy(data + 1, data + 1 + length);  // exact, so that over-reads are seen
    const uint8_t* message = copy.data();
    if (length == sizeof(Response) && message[0] == 2) store(copy.data() + 8, pending);
    if (length == sizeof(CookieReply) && message[0] == 3) store(copy.data() + 4, pending);
    if (length >= 92 && (length & 1) == 0 && message[0] <= 2) {
      const Mac16 mac1 = crypto::blake2s_mac(table.local().mac1_key, {Bytes(message, length - 32)});
      std::memcpy(copy.data() + length - 32, mac1.data(), mac1.size());
    }
    data += 1 + length;
    size -= 1 + length;
    now += kMillisecond;
    // What a session may hold: a suite frame is read only as it is written.
    const Bytes payload(message, length);
    if (const auto offer = decode_offer(payload); offer.has_value()) {
      const SuiteFrame again = encode_offer(offer->offer, offer->have);
      if (!std::equal(again.begin(), again.end(), payload.begin(), payload.end())) std::abort();
    }
    if (const auto proof = decode_proof(payload); proof.has_value()) {
      const SuiteFrame again = encode_proof(*proof);
      if (!std::equal(again.begin(), again.end(), payload.begin(), payload.end())) std::abort();
    }
    Endpoint from;
    from.remote.port = 1;
    out.bytes = 0;
    const omerta_classification kind = omerta_classify(message, static_cast<__u32>(length));
    if (kind.verdict != OMERTA_WIREGUARD) continue;
    if (message[0] == 1) table.handle_initiation(load<Initiation>(message), from, now, out);
    if (message[0] == 2) table.handle_response(load<Response>(message), from, now, out);
    if (message[0] == 3) table.handle_cookie_reply(load<CookieReply>(message), now);
    if (message[0] == 4 && table.find(load<uint32_t>(message + 4)) != nullptr) std::abort();
    if (out.bytes > length) std::abort();
  }
  if (table.size() != 1 || pending_index() != pending || pending == 0) std::abort();
  return 0;
}
