// Two members tell each other, inside their session, where they may be reached, and agree on when both open
// towards each other (docs/protocol.md, "Contact").

import type { SessionKey } from '../../contract/engine.js';
import { MAX_MEMBERS, type MemberTable } from '../members/member-table.js';
import { CandidateKind, type ContactCandidate } from '../protocol/contact-candidate.js';
import { AnswerTable, type RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import { contactCandidates, triedCandidates, type OwnAddresses } from './contact-addresses.js';
import type { Contact } from './contact.js';
import { sourcesFor } from './local-interface.js';
import { mappedKindFor } from './mapped-address.js';
import { familyOf, type NatWitness } from './nat-witness.js';
import type { PortPrediction } from './port-prediction.js';
import type { RuledWays } from './ruled-ways.js';

/** Who was asked begins by himself when he is not told to. */
const BEGIN_ANYWAY_MS = 1000;

/** What the node lends to its contacts. */
export interface ExchangeHost {
  readonly nat: Pick<NatWitness, 'admitsOtherPorts'>;
  readonly requests: RequestTable;
  readonly rules: RuledWays;
  readonly members: Pick<MemberTable, 'bySessionKey'>;
  own(): Omit<OwnAddresses, 'predicted'>;
  /** Relays may see this node elsewhere by now: they are asked. */
  askRelays(turn: Turn): void;
}

/** Who has contacts made, and keeps them. */
export interface ExchangeUser {
  /** The member's, a new one if there is none. */
  contact(member: SessionKey, turn: Turn): Contact;
  /** Whether it is the member's yet: an answer may come late. */
  stands(member: SessionKey, contact: Contact): boolean;
  /** Whether the operator lets it be reached directly. */
  permits(member: SessionKey): boolean;
  /** Both sides know of each other what there is to try. */
  agreed(member: SessionKey, contact: Contact, turn: Turn): void;
  /** The member does not want to be reached directly any more. */
  declined(member: SessionKey, contact: Contact, turn: Turn): void;
  /** What is due for it is due at another time. */
  rescheduled(member: SessionKey, contact: Contact): void;
}

export class ContactExchange {
  readonly #host: ExchangeHost;
  readonly #user: ExchangeUser;
  readonly #prediction: PortPrediction;
  readonly #answers = new AnswerTable(() => MAX_MEMBERS);

  constructor(host: ExchangeHost, user: ExchangeUser, prediction: PortPrediction) {
    this.#host = host;
    this.#user = user;
    this.#prediction = prediction;
  }

  /** Asks the member for a contact. */
  ask(member: SessionKey, contact: Contact, turn: Turn): void {
    const sentAt = turn.now;
    contact.asking = true;
    contact.unanswered = false;
    contact.askAt = undefined;
    const message = { type: 'contact', candidates: this.#candidates(member) } as const;
    this.#host.requests.send(member, message, turn, (answer, later) => {
      if (!this.#user.stands(member, contact)) return;
      contact.asking = false;
      if (!this.#user.permits(member)) {
        // The operator has decided otherwise since.
        if (answer?.type === 'contact-accepted') this.decline(member, later);
      } else if (answer?.type === 'contact-accepted') {
        this.#agree(member, contact, answer.candidates, later);
        // Both are to send their first packets before the other's arrive.
        later.send(member, 0, { type: 'contact-begin' });
        contact.beginAt = Math.max(later.now + (later.now - sentAt) / 2, contact.quietUntil);
      } else {
        contact.refused = answer !== undefined;
        contact.unanswered = answer === undefined;
        contact.failed(later.now);
      }
      this.#user.rescheduled(member, contact);
    });
  }

  /** A member asks for a contact; a repeated request is answered as it was. */
  accept(member: SessionKey, request: number, told: readonly ContactCandidate[], turn: Turn): void {
    if (!this.#answers.begin(member, request, turn)) return;
    const contact = this.#user.contact(member, turn);
    contact.unanswered = false;
    contact.askAt = undefined;
    if (told.length === 0) {
      this.#user.declined(member, contact, turn);
      this.#answers.answer(member, request, { type: 'contact-accepted', candidates: [] }, turn);
      return;
    }
    this.#agree(member, contact, told, turn);
    contact.beginAt = turn.now + BEGIN_ANYWAY_MS;
    this.#user.rescheduled(member, contact);
    const answer = { type: 'contact-accepted', candidates: this.#candidates(member) } as const;
    this.#answers.answer(member, request, answer, turn);
  }

  /** Ends the direct paths that the member has to this node: it is told of no address any more. */
  decline(member: SessionKey, turn: Turn): void {
    this.#host.requests.send(member, { type: 'contact', candidates: [] }, turn, () => undefined);
  }

  /** The moment both open has come. */
  begin(contact: Contact, turn: Turn): void {
    contact.beginAt = undefined;
    for (const path of contact.paths.all()) if (path.state !== 'proven') path.retry(turn.now);
    // In case it comes to nothing: the next contact names what relays see by then.
    if (contact.active === undefined && contact.mayAskRelays(turn.now)) this.#host.askRelays(turn);
    contact.failed(turn.now);
  }

  /** A member is gone. */
  forget(member: SessionKey): void {
    this.#answers.forget(member);
  }

  #candidates(member: SessionKey): ContactCandidate[] {
    const own = this.#host.rules.told(member, this.#host.own());
    const { capabilities = [] } = this.#host.members.bySessionKey(member)?.record ?? {};
    const predicted = this.#prediction.addresses(own.observed);
    return contactCandidates({ ...own, predicted }, mappedKindFor(capabilities));
  }

  #agree(member: SessionKey, contact: Contact, told: readonly ContactCandidate[], turn: Turn): void {
    contact.agreed = true;
    contact.refused = false;
    contact.learned = 0;
    const { nat } = this.#host;
    const own = this.#host.own();
    // Who lets in any port of an address it has sent to need not find out which.
    const tried = told.filter(
      ({ kind, address }) => kind !== CandidateKind.predicted || !nat.admitsOtherPorts(familyOf(address)),
    );
    for (const { address } of triedCandidates(tried, own))
      for (const local of sourcesFor(address, own.interfaces))
        contact.paths.add({ remote: { address }, local });
    this.#user.agreed(member, contact, turn);
  }
}
