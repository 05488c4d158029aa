//! Each test plays a short history and names the one promise that it breaks. `accepts_a_sound_history` breaks none.

use super::*;

const A: ClientIndex = ClientIndex(0);
const B: ClientIndex = ClientIndex(1);

fn token(client: ClientIndex, number: u32) -> Token {
    Token { client, number }
}

fn message(id: u64, token: Token) -> Event {
    Event::Message { id: MessageId(id), token: Some(token) }
}

fn ack(token: Token, id: u64, seq: u64) -> Ack {
    Ack { token, id: MessageId(id), seq: Seq(seq), duplicate: false }
}

/// A room that A and B watch from seq 10 on.
fn room() -> RoomChecker {
    let mut room = RoomChecker::new("room_1");
    room.subscribed(A, Seq(10));
    room.subscribed(B, Seq(10));
    room
}

/// A sends message `number`; it becomes message `100 + seq` and reaches both.
fn deliver(room: &mut RoomChecker, number: u32, seq: u64) {
    let token = token(A, number);
    room.sent(token);
    room.acked(ack(token, 100 + seq, seq));
    room.delivered(A, Seq(seq), message(100 + seq, token));
    room.delivered(B, Seq(seq), message(100 + seq, token));
}

/// The kinds found, with their counts.
fn kinds(room: RoomChecker) -> Vec<(ViolationKind, u64)> {
    room.finish(true).iter().map(|(kind, found)| (kind, found.count)).collect()
}

#[test]
fn accepts_a_sound_history() {
    let mut room = room();
    deliver(&mut room, 0, 11);
    room.delivered(A, Seq(12), Event::Other);
    room.delivered(B, Seq(12), Event::Other);
    deliver(&mut room, 1, 13);
    assert!(room.settled());
    assert_eq!(room.cursor(B), Some(Seq(13)));
    assert_eq!(kinds(room), []);
}

#[test]
fn accepts_a_delivery_to_another_before_the_ack() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.delivered(B, Seq(11), message(5, t));
    room.acked(ack(t, 5, 11));
    room.delivered(A, Seq(11), message(5, t));
    assert_eq!(kinds(room), []);
}

#[test]
fn reports_an_own_event_before_its_ack() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.delivered(A, Seq(11), message(5, t));
    room.acked(ack(t, 5, 11));
    room.delivered(B, Seq(11), message(5, t));
    assert_eq!(kinds(room), [(ViolationKind::EventBeforeAck, 1)]);
}

#[test]
fn reports_a_gap_and_its_messages_as_undelivered() {
    let mut room = room();
    for (number, seq) in [(0, 11), (1, 12), (2, 13)] {
        let t = token(A, number);
        room.sent(t);
        room.acked(ack(t, 100 + seq, seq));
        room.delivered(A, Seq(seq), message(100 + seq, t));
        if seq != 12 {
            room.delivered(B, Seq(seq), message(100 + seq, t));
        }
    }
    assert_eq!(kinds(room), [(ViolationKind::Gap, 1), (ViolationKind::Undelivered, 1)]);
}

#[test]
fn reports_late_events_as_disorder_and_not_as_loss() {
    let mut room = room();
    let (first, second) = (token(A, 0), token(A, 1));
    for (t, seq) in [(first, 11), (second, 12)] {
        room.sent(t);
        room.acked(ack(t, seq, seq));
        room.delivered(A, Seq(seq), message(seq, t));
    }
    room.delivered(B, Seq(12), message(12, second));
    room.delivered(B, Seq(11), message(11, first));
    assert_eq!(kinds(room), [(ViolationKind::Gap, 1), (ViolationKind::Disorder, 1)]);
}

#[test]
fn reports_a_repeated_event_as_duplicate() {
    let mut room = room();
    deliver(&mut room, 0, 11);
    room.delivered(B, Seq(11), message(111, token(A, 0)));
    room.delivered(B, Seq(10), Event::Other);
    assert_eq!(kinds(room), [(ViolationKind::Duplicate, 2)]);
}

#[test]
fn reports_a_lost_tail_as_undelivered() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.acked(ack(t, 5, 11));
    room.delivered(A, Seq(11), message(5, t));
    assert!(!room.settled());
    assert_eq!(kinds(room), [(ViolationKind::Undelivered, 1)]);
}

#[test]
fn tolerates_messages_in_flight_of_an_interrupted_run() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.sent(token(A, 1));
    room.acked(ack(t, 5, 11));
    assert_eq!(room.finish(false).total(), 0);
}

#[test]
fn reports_a_send_without_a_reply() {
    let mut room = room();
    room.sent(token(A, 0));
    assert!(!room.settled());
    assert_eq!(kinds(room), [(ViolationKind::Unanswered, 1)]);
}

#[test]
fn reports_subscribers_with_different_histories() {
    let mut room = room();
    deliver(&mut room, 0, 11);
    room.delivered(A, Seq(12), Event::Other);
    room.delivered(B, Seq(12), Event::Message { id: MessageId(9), token: None });
    assert_eq!(kinds(room), [(ViolationKind::SeqReused, 1)]);
}

#[test]
fn reports_one_message_under_two_numbers() {
    let mut room = room();
    for client in [A, B] {
        for seq in [11, 12] {
            room.delivered(client, Seq(seq), Event::Message { id: MessageId(9), token: None });
        }
    }
    assert_eq!(kinds(room), [(ViolationKind::MessageIdReused, 2)]);
}

#[test]
fn reports_an_ack_of_another_message() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.delivered(B, Seq(11), message(5, t));
    room.acked(ack(t, 6, 11));
    room.delivered(A, Seq(11), message(5, t));
    // The token disagrees, and so does the number.
    assert!(room.finish(true).count(ViolationKind::AckMismatch) >= 1);
}

#[test]
fn accepts_a_resent_message_as_duplicate_and_before_its_ack() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.resent(t);
    room.delivered(A, Seq(11), message(5, t));
    room.delivered(B, Seq(11), message(5, t));
    room.acked(Ack { duplicate: true, ..ack(t, 5, 11) });
    assert_eq!(kinds(room), []);
}

#[test]
fn reports_a_resent_message_that_is_stored_twice() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.resent(t);
    for client in [A, B] {
        room.delivered(client, Seq(11), message(5, t));
    }
    room.acked(ack(t, 6, 12));
    for client in [A, B] {
        room.delivered(client, Seq(12), message(6, t));
    }
    let found = room.finish(true);
    assert_eq!(found.count(ViolationKind::AckMismatch), 1);
    assert_eq!(found.count(ViolationKind::CommittedTwice), 2);
}

#[test]
fn reports_two_acks_that_disagree() {
    let mut room = room();
    deliver(&mut room, 0, 11);
    room.acked(Ack { duplicate: true, ..ack(token(A, 0), 111, 11) });
    room.acked(Ack { duplicate: true, ..ack(token(A, 0), 112, 12) });
    assert_eq!(room.finish(true).count(ViolationKind::AckChanged), 1);
}

#[test]
fn reports_a_first_send_acknowledged_as_duplicate() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.acked(Ack { duplicate: true, ..ack(t, 5, 11) });
    for client in [A, B] {
        room.delivered(client, Seq(11), message(5, t));
    }
    assert_eq!(kinds(room), [(ViolationKind::FalseDuplicate, 1)]);
}

#[test]
fn reports_a_refused_message_that_is_delivered() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.refused(t, Refusal::Final);
    assert!(room.settled());
    for client in [A, B] {
        room.delivered(client, Seq(11), message(5, t));
    }
    assert_eq!(kinds(room), [(ViolationKind::RefusedButDelivered, 2)]);
}

#[test]
fn requires_an_unclear_message_to_reach_all_or_none() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.refused(t, Refusal::Unclear);
    room.delivered(A, Seq(11), message(5, t));
    assert!(!room.settled());
    assert_eq!(kinds(room), [(ViolationKind::Undelivered, 1)]);
}

#[test]
fn accepts_a_stored_message_whose_repetition_is_refused() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.resent(t);
    room.refused(t, Refusal::Final);
    for client in [A, B] {
        room.delivered(client, Seq(11), message(5, t));
    }
    assert_eq!(kinds(room), []);
}

#[test]
fn reports_unexpected_replies_and_phantom_messages() {
    let mut room = room();
    room.acked(ack(token(A, 9), 1, 1));
    room.refused(token(A, 8), Refusal::Final);
    room.delivered(A, Seq(11), message(5, token(B, 7)));
    assert_eq!(kinds(room), [(ViolationKind::Phantom, 1), (ViolationKind::UnexpectedReply, 2)]);
}

#[test]
fn reports_a_changed_content_once_per_receiver() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    // Changed so badly for B that it does not even look like ours.
    room.delivered(B, Seq(11), Event::Message { id: MessageId(5), token: None });
    room.acked(ack(t, 5, 11));
    room.delivered(A, Seq(11), Event::Garbled { id: MessageId(5) });
    assert_eq!(kinds(room), [(ViolationKind::Corrupted, 2)]);
}

#[test]
fn fills_the_gap_of_a_reset_from_the_history() {
    let mut room = room();
    let (first, second) = (token(A, 0), token(A, 1));
    for (t, seq) in [(first, 11), (second, 13)] {
        room.sent(t);
        room.acked(ack(t, seq, seq));
        room.delivered(A, Seq(seq), message(seq, t));
        room.delivered(A, Seq(seq + 1), Event::Other);
    }
    room.reset(B, Seq(14));
    assert!(!room.settled(), "the history is still to be read");
    assert!(room.recovered(B, Seq(11), message(11, first)));
    assert!(room.recovered(B, Seq(13), message(13, second)));
    assert!(!room.recovered(B, Seq(13), message(13, second)));
    room.recovery_ended(B);
    assert!(room.settled());
    assert_eq!(kinds(room), []);
}

#[test]
fn reports_messages_missing_from_the_history_after_a_reset() {
    let mut room = room();
    let t = token(A, 0);
    room.sent(t);
    room.acked(ack(t, 5, 11));
    room.delivered(A, Seq(11), message(5, t));
    room.reset(B, Seq(11));
    assert_eq!(kinds(room), [(ViolationKind::Undelivered, 1)]);
}

#[test]
fn reports_caught_up_beyond_the_last_event_as_gap() {
    let mut room = room();
    room.caught_up(A, Seq(10));
    room.caught_up(B, Seq(12));
    assert_eq!(kinds(room), [(ViolationKind::Gap, 1)]);
}

#[test]
fn keeps_the_first_baseline_through_a_reconnection() {
    let mut room = room();
    deliver(&mut room, 0, 11);
    room.subscribed(B, Seq(40));
    assert_eq!(room.cursor(B), Some(Seq(11)));
    assert!(!room.delivered(ClientIndex(9), Seq(12), Event::Other));
}

#[test]
fn accepts_a_reported_cursor_and_finds_gaps_after_it() {
    let mut room = room();
    deliver(&mut room, 0, 11);
    for (number, seq) in [(1, 12), (2, 13)] {
        let t = token(A, number);
        room.sent(t);
        room.acked(ack(t, 100 + seq, seq));
        room.delivered(A, Seq(seq), message(100 + seq, t));
    }
    assert!(!room.settled());
    room.advanced(B, Seq(12));
    assert_eq!(room.cursor(B), Some(Seq(12)));
    room.advanced(B, Seq(11));
    assert_eq!(room.cursor(B), Some(Seq(12)), "a cursor never goes back");
    room.delivered(B, Seq(12), message(112, token(A, 1)));
    assert!(!room.settled());
    room.advanced(B, Seq(13));
    assert!(room.settled());
    assert_eq!(kinds(room), [(ViolationKind::Duplicate, 1)]);
}

#[test]
fn logs_only_sound_events_for_the_fast_path() {
    let mut room = room();
    let (first, second) = (token(A, 0), token(A, 1));
    assert!(!room.is_sound(Seq(11), message(5, first)), "unknown");
    room.sent(first);
    room.delivered(B, Seq(11), message(5, first));
    assert!(room.is_sound(Seq(11), message(5, first)));
    assert!(!room.is_sound(Seq(11), message(6, first)) && !room.is_sound(Seq(12), message(5, first)));
    room.delivered(B, Seq(12), message(7, token(B, 9)));
    assert!(!room.is_sound(Seq(12), message(7, token(B, 9))), "never sent");
    room.delivered(B, Seq(13), Event::Garbled { id: MessageId(8) });
    assert!(!room.is_sound(Seq(13), Event::Garbled { id: MessageId(8) }));
    room.sent(second);
    room.refused(second, Refusal::Final);
    room.delivered(B, Seq(14), message(9, second));
    assert!(!room.is_sound(Seq(14), message(9, second)), "refused, yet delivered");
    room.delivered(B, Seq(15), message(5, first));
    assert!(!room.is_sound(Seq(15), message(5, first)), "stored twice");
    room.delivered(B, Seq(16), Event::Other);
    assert!(room.is_sound(Seq(16), Event::Other));
}
