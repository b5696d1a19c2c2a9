// SPDX-License-Identifier: Apache-2.0
// Handshake, cookie, KDF, suite and AEAD against vectors computed without a line of this engine
// (test/engine/vectors; the wasm engine is held to the first file too).
#include <sodium.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "check.h"
#include "crypto/aead.h"
#include "crypto/blake2s.h"
#include "session/cookie.h"
#include "session/replay_window.h"
#include "session/suite_offer.h"

namespace {

using namespace omerta;
using namespace omerta::session;
using Json = nlohmann::json;

Json read(const std::string& name) {
  const std::string path = "test/engine/vectors/" + name;
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + ": cannot be opened; run from the repository's root");
  return Json::parse(file);
}

std::vector<uint8_t> bytes_of(const Json& hex) {
  const std::string text = hex;
  std::vector<uint8_t> bytes(text.size() / 2);
  if (!bytes.empty())
    sodium_hex2bin(bytes.data(), bytes.size(), text.data(), text.size(), nullptr, nullptr, nullptr);
  return bytes;
}

/// A fixed-size value; `at` is its offset in a longer vector.
template <class T>
T value_of(const Json& hex, size_t at = 0) {
  const std::vector<uint8_t> bytes = bytes_of(hex);
  if (bytes.size() < at + sizeof(T)) throw std::runtime_error("a vector is too short");
  return load<T>(bytes.data() + at);
}

template <class Message>
bool is(const Message& message, const Json& hex) {
  const std::vector<uint8_t> bytes = bytes_of(hex);
  return bytes.size() == sizeof message && std::memcmp(bytes.data(), &message, sizeof message) == 0;
}

const Json& wireguard() {
  static const Json vectors = read("wireguard.json");
  return vectors;
}
const Json& suites() {
  static const Json vectors = read("suites.json");
  return vectors;
}

/// Both ends of the vectors' handshake.
struct Ends {
  LocalIdentity initiator{value_of<Key32>(wireguard()["initiatorPrivate"])};
  LocalIdentity responder{value_of<Key32>(wireguard()["responderPrivate"])};
  RemoteIdentity to_responder{initiator, responder.public_key};
  RemoteIdentity to_initiator{responder, initiator.public_key};
  Ends() {
    to_responder.preshared_key = to_initiator.preshared_key = value_of<Key32>(wireguard()["presharedKey"]);
  }

  Initiation initiation(HandshakeState& state) const {
    Initiation message;
    CHECK(create_initiation(initiator, to_responder, value_of<Key32>(wireguard()["initiatorEphemeral"]),
                            value_of<Timestamp>(wireguard()["timestamp"]), wireguard()["initiatorIndex"],
                            state, message));
    message.mac1 = crypto::blake2s_mac(to_responder.mac1_key, {before_mac1(message)});
    return message;
  }
};

void the_initiation_is_the_one_computed_from_the_whitepaper() {
  const Ends ends;
  HandshakeState state;
  CHECK(is(ends.initiation(state), wireguard()["initiation"]));
  CHECK(ends.initiator.public_key == value_of<Key32>(wireguard()["initiatorPublic"]));
}

void the_responder_reads_it_and_answers_with_the_vector_response() {
  const Ends ends;
  const auto message = value_of<Initiation>(wireguard()["initiation"]);
  CHECK(crypto::blake2s_mac(ends.responder.mac1_key, {before_mac1(message)}) == message.mac1);
  auto received = open_initiation_static(ends.responder, message);
  CHECK(received.has_value() && received->static_key == ends.initiator.public_key);
  CHECK(open_initiation_timestamp(ends.to_initiator, *received, message) ==
        value_of<Timestamp>(wireguard()["timestamp"]));
  Response response;
  CHECK(create_response(ends.responder, ends.to_initiator, value_of<Key32>(wireguard()["responderEphemeral"]),
                        wireguard()["responderIndex"], received->state, response));
  response.mac1 = crypto::blake2s_mac(ends.to_initiator.mac1_key, {before_mac1(response)});
  CHECK(is(response, wireguard()["response"]));
  const TransportKeys keys = derive_transport_keys(received->state, false);
  CHECK(keys.send == value_of<Key32>(wireguard()["responderSends"]));
  CHECK(keys.receive == value_of<Key32>(wireguard()["initiatorSends"]));
}

void the_initiator_derives_the_vector_keys_and_the_transport_message_opens() {
  const Ends ends;
  HandshakeState state;
  ends.initiation(state);
  CHECK(consume_response(ends.initiator, ends.to_responder, value_of<Response>(wireguard()["response"]),
                         state));
  const TransportKeys keys = derive_transport_keys(state, true);
  CHECK(keys.send == value_of<Key32>(wireguard()["initiatorSends"]));
  CHECK(keys.receive == value_of<Key32>(wireguard()["responderSends"]));

  std::vector<uint8_t> transport = bytes_of(wireguard()["transport"]);
  const std::vector<uint8_t> payload = bytes_of(wireguard()["payload"]);
  CHECK(load<uint32_t>(transport.data()) == kTransportType);
  CHECK(std::to_string(load<uint64_t>(transport.data() + 8)) == wireguard()["counter"]);
  const crypto::AeadKey key(crypto::Suite::chacha20_poly1305, keys.send, 1);
  crypto::Aead aead(crypto::choose_aead({}));
  crypto::AeadJob job{&key, load<uint64_t>(transport.data() + 8), transport.data() + kTransportHeaderSize,
                      payload.size(), false};
  aead.open(std::span(&job, 1));
  CHECK(job.ok && std::equal(payload.begin(), payload.end(), job.text));
}

void the_cookie_reply_and_the_mac2_made_from_it_are_the_vector_ones() {
  const Ends ends;
  const auto initiation = value_of<Initiation>(wireguard()["initiation"]);
  const auto random = [](const char* name) {
    return [name](std::span<uint8_t> out) {
      const std::vector<uint8_t> bytes = bytes_of(wireguard()[name]);
      CHECK(bytes.size() == out.size());
      std::copy(bytes.begin(), bytes.end(), out.begin());
    };
  };
  omerta_address source{};
  const std::vector<uint8_t> where = bytes_of(wireguard()["source"]);
  std::memcpy(source.ip, where.data(), 16);
  std::memcpy(&source.port, where.data() + 16, 2);
  CookieJar jar;
  const Cookie cookie = jar.cookie_for(source, kSecond, random("cookieSecret"));
  const CookieReply reply = make_cookie_reply(ends.responder.cookie_key, initiation.sender, initiation.mac1,
                                              cookie, random("cookieNonce"));
  CHECK(is(reply, wireguard()["cookieReply"]));
  Cookie opened;
  CHECK(open_cookie_reply(ends.to_responder.cookie_key, reply, initiation.mac1, opened) && opened == cookie);
  Initiation with_mac2 = initiation;
  with_mac2.mac2 = crypto::blake2s_mac(opened, {before_mac2(initiation)});
  CHECK(is(with_mac2, wireguard()["initiationWithMac2"]));
}

void suite_frames_are_the_vector_ones_in_both_directions() {
  const SuiteOffer initiators{3, 0x01020304, kWideWindow};
  const SuiteOffer responders{3, 0xA0B0C0D0, kStandardWindow};
  CHECK(is(encode_offer(initiators, false), suites()["initiatorsOffer"]));
  CHECK(is(encode_offer(responders, true), suites()["respondersOffer"]));
  const auto read_back = decode_offer(bytes_of(suites()["respondersOffer"]));
  CHECK(read_back.has_value() && read_back->offer == responders && read_back->have);
  for (uint8_t state = 0; state < 3; state++)
    CHECK(is(encode_proof(static_cast<ProofState>(state)), suites()["proofs"][state]));
}

void the_second_keys_are_the_vector_ones_on_both_sides() {
  HandshakeState state;
  state.chaining_key = value_of<Key32>(suites()["chainingKey"]);
  const Key32 secret = derive_suite_secret(state);
  CHECK(secret == value_of<Key32>(suites()["suiteSecret"]));
  const SuiteOffer initiators = decode_offer(bytes_of(suites()["initiatorsOffer"]))->offer;
  const SuiteOffer responders = decode_offer(bytes_of(suites()["respondersOffer"]))->offer;
  for (const Json& vector : suites()["suites"]) {
    const auto suite = static_cast<crypto::Suite>(vector["number"].get<uint8_t>());
    CHECK(vector["name"] == crypto::name_of(suite));
    for (const bool initiator : {true, false}) {
      const TransportKeys keys = derive_suite_keys(secret, suite, initiators, responders, initiator);
      CHECK((initiator ? keys.send : keys.receive) == value_of<Key32>(vector["initiatorSends"]));
      CHECK((initiator ? keys.receive : keys.send) == value_of<Key32>(vector["responderSends"]));
    }
  }
}

void every_implementation_seals_and_opens_the_vector_packets() {
  for (const crypto::AeadSwitches switches :
       {crypto::AeadSwitches{}, crypto::AeadSwitches{.ipsec_mb = false, .aes_256_gcm = true}}) {
    crypto::Aead aead(crypto::choose_aead(switches));
    uint64_t id = 1;
    for (const Json& vector : suites()["suites"]) {
      const crypto::AeadKey key(static_cast<crypto::Suite>(vector["number"].get<uint8_t>()),
                                value_of<Key32>(vector["initiatorSends"]), id++);
      for (const Json& packet : vector["packets"]) {
        std::vector<uint8_t> text = bytes_of(packet["text"]);
        const std::vector<uint8_t> plain = text;
        text.resize(text.size() + crypto::kAeadTagSize);
        crypto::AeadJob job{&key, std::stoull(packet["counter"].get<std::string>()), text.data(),
                            plain.size(), false};
        aead.seal(std::span(&job, 1));
        CHECK(job.ok && text == bytes_of(packet["sealed"]));
        aead.open(std::span(&job, 1));
        CHECK(job.ok && std::equal(plain.begin(), plain.end(), text.begin()));
      }
    }
  }
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(the_initiation_is_the_one_computed_from_the_whitepaper);
  RUN(the_responder_reads_it_and_answers_with_the_vector_response);
  RUN(the_initiator_derives_the_vector_keys_and_the_transport_message_opens);
  RUN(the_cookie_reply_and_the_mac2_made_from_it_are_the_vector_ones);
  RUN(suite_frames_are_the_vector_ones_in_both_directions);
  RUN(the_second_keys_are_the_vector_ones_on_both_sides);
  RUN(every_implementation_seals_and_opens_the_vector_packets);
  return omerta::check::finish();
}
