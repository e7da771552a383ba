import Foundation
import Lab
import Synchronization
import Testing

extension OwnGuestTests {
  /// Sessions with keys over real RDMA, and somebody on the cable who sees all, knows keys and sequence numbers, and makes checks
  /// anew.
  @Suite(.serialized, .enabled(if: !isSanitized), .guests(2)) struct WireTests {
    private static let served = "verbs://10.71.0.1:7471"

    enum Attack: CaseIterable, Sendable {
      /// Bits of what is written and read; packets that get lost, come again, and come late.
      case altered, dropped, repeated, reordered
      /// Writes into slots, by the region's own key and with the next sequence number; answers to reads that the card never gave.
      case injectedWrites, falseAnswers
      /// Refusals in the card's name, which end connections; and what connections are made of, altered and lost.
      case resets, setUp
    }

    /// What the card's processor does no more once its kernel is dead: connections are not made any more, those that are there work.
    private static func passNoNewConnections(
      _ frame: [UInt8], _ direction: WireTap.Direction
    ) -> [(frame: [UInt8], direction: WireTap.Direction)] {
      RoCEPacket(frame: frame)?.destination == 1 ? [] : [(frame, direction)]
    }

    /// Who sits on the cable.
    private final class Meddler: Sendable {
      private struct State {
        var attack: Attack?
        /// Packets that were altered, left out or added.
        var deeds = 0
        var last = ContinuousClock.now
        var (sound, unsound) = (0, 0)
        /// The remote host's queue pairs, newest last.
        var pairs: [UInt32] = []
        var earlier: [(frame: [UInt8], direction: WireTap.Direction)] = []
        var held: [(frame: [UInt8], direction: WireTap.Direction)] = []
        var answers: [[UInt8]] = []
      }
      private let state = Mutex(State())

      func begin(_ attack: Attack?) { state.withLock { ($0.attack, $0.deeds) = (attack, 0) } }
      var deeds: Int { state.withLock { $0.deeds } }
      var soundness: (sound: Int, unsound: Int) { state.withLock { ($0.sound, $0.unsound) } }

      func pass(_ frame: [UInt8], _ direction: WireTap.Direction) -> [(frame: [UInt8], direction: WireTap.Direction)] {
        guard let packet = RoCEPacket(frame: frame) else { return [(frame, direction)] }
        return state.withLock { state in
          if packet.isSound { state.sound += 1 } else { state.unsound += 1 }
          note(packet, direction, &state)
          guard let attack = state.attack else {
            defer { state.held = [] }
            return state.held + [(frame, direction)]
          }
          return meddle(attack, packet, direction, &state)
        }
      }

      private func note(_ packet: RoCEPacket, _ direction: WireTap.Direction, _ state: inout State) {
        if direction == .fromHolder, packet.destination != 1 {
          state.pairs.removeAll { $0 == packet.destination }
          state.pairs = state.pairs.suffix(3) + [packet.destination]
          if packet.opcode == RoCEPacket.Opcode.readResponseOnly {
            state.answers = state.answers.suffix(31) + [Array(packet.frame[packet.payload])]
          }
        }
        if packet.destination != 1 { state.earlier = state.earlier.suffix(63) + [(packet.frame, direction)] }
      }

      private func meddle(
        _ attack: Attack, _ packet: RoCEPacket, _ direction: WireTap.Direction, _ state: inout State
      ) -> [(frame: [UInt8], direction: WireTap.Direction)] {
        let own = (frame: packet.frame, direction: direction)
        func isChosen(_ times: Int) -> Bool { Int.random(in: 0..<times) == 0 }
        func altered(_ packet: RoCEPacket) -> [UInt8]? {
          guard let index = packet.payload.randomElement() else { return nil }
          var other = packet
          other[index] ^= 1 << UInt8.random(in: 0...7)
          other.seal()
          return other.frame
        }
        func did<Result>(_ result: Result) -> Result {
          state.deeds += 1
          state.last = .now
          return result
        }
        let isOfSession = packet.destination != 1
        switch attack {
        case .altered:
          let carries =
            RoCEPacket.Opcode.writes.contains(packet.opcode) || RoCEPacket.Opcode.readResponses.contains(packet.opcode)
          guard isOfSession, carries, isChosen(8), let frame = altered(packet) else { return [own] }
          return did([(frame, direction)])
        case .dropped: return isOfSession && isChosen(6) ? did([]) : [own]
        case .repeated:
          guard isOfSession, isChosen(4), let earlier = state.earlier.randomElement() else { return [own] }
          return did([own, earlier])
        case .reordered:
          if isOfSession, state.held.count < 3, isChosen(3) {
            state.held.append(own)
            return did([])
          }
          guard isChosen(2) else { return [own] }
          defer { state.held = [] }
          return [own] + state.held
        case .injectedWrites:
          guard direction == .toHolder, packet.opcode == RoCEPacket.Opcode.writeOnly, isChosen(2) else { return [own] }
          var forged = packet
          for index in packet.payload { forged[index] = .random(in: 0...255) }
          forged.seal()
          // The true one comes second, and so counts as one that was there already.
          return did([(forged.frame, direction), own])
        case .falseAnswers:
          guard direction == .toHolder, packet.opcode == RoCEPacket.Opcode.readRequest, isChosen(4),
            let length = packet.address?.length, length <= 1024
          else { return [own] }
          let payload =
            state.answers.filter { $0.count == length }.randomElement().flatMap { isChosen(2) ? $0 : nil }
            ?? (0..<(length + 3) / 4 * 4).map { _ in .random(in: 0...255) }
          return did(
            state.pairs.map { pair in forged(packet, RoCEPacket.Opcode.readResponseOnly, pair, 0x1f, payload) } + [own])
        case .resets:
          guard direction == .toHolder, isOfSession, state.last + .milliseconds(250) < .now else { return [own] }
          // Not acknowledged: out of sequence, or invalid, or not allowed, or failed.
          return did(
            state.pairs.map { pair in forged(packet, RoCEPacket.Opcode.acknowledge, pair, 0x60 + .random(in: 0...3), [])
            } + [own])
        case .setUp:
          guard !isOfSession else { return [own] }
          if isChosen(16) { return did([]) }
          guard isChosen(2), let frame = altered(packet) else { return [own] }
          return did([(frame, direction)])
        }
      }

      /// What the card is made to say to a queue pair of the remote host's.
      private func forged(
        _ packet: RoCEPacket, _ opcode: UInt8, _ pair: UInt32, _ syndrome: UInt8, _ payload: [UInt8]
      ) -> (frame: [UInt8], direction: WireTap.Direction) {
        var answer = RoCEPacket(
          answering: packet, opcode: opcode, destination: pair, extension: [syndrome, 0, 0, 1], payload: payload)
        answer.sequence = packet.sequence
        answer.seal()
        return (answer.frame, .fromHolder)
      }
    }

    /// Who has connections to spare lends them when nobody can make any more.
    private func aRelayLetsNewcomersIn(_ lab: CardLab, _ tap: WireTap, key: String) throws {
      let started = try lab.remote.run(
        """
        export GRASS_CONFIG=/tmp/me
        grassctl key trust \(Self.served) \(key) && grassctl key trust tcp://127.0.0.1:7117 \(key) || exit 1
        grassctl relay --host \(Self.served) --listen tcp://127.0.0.1:7117 --spare 2 --timeout 20 > /tmp/relay 2>&1 &
        for i in $(seq 300); do grep -q ^ready /tmp/relay && exit 0; kill -0 $! 2> /dev/null || break; sleep 0.1; done
        cat /tmp/relay; exit 1
        """, timeout: .seconds(60))
      try #require(started.status == 0, "\(started.text)")
      tap.set { Self.passNoNewConnections($0, $1) }
      let ask = "GRASS_CONFIG=/tmp/me grassctl heartbeat --count 5 --interval 0.1 --timeout 3 --host"
      let direct = try lab.remote.run("\(ask) \(Self.served)", timeout: .seconds(60))
      #expect(direct.status != 0, "\(direct.text)")
      let lent = try lab.remote.run("\(ask) tcp://127.0.0.1:7117", timeout: .seconds(60))
      let log = try lab.remote.run("cat /tmp/relay")
      #expect(lent.status == 0 && lent.text.contains("5 sent, 5 answered"), "\(lent.text) \(log.text)")
      tap.set(nil)
    }

    /// A line that `linkcheck sealed` prints each second.
    private struct Second {
      let right, failed, sessions: Int

      static func all(in text: String) -> [Second] {
        text.split(separator: "\n").compactMap { line in
          let words = line.split(separator: " ").map(String.init)
          guard words.count == 6, words[0] == "right", let right = Int(words[1]), let failed = Int(words[3]),
            let sessions = Int(words[5])
          else { return nil }
          return Second(right: right, failed: failed, sessions: sessions)
        }
      }
    }

    @Test func nothingFalseIsAcceptedAndNobodyIsKeptOut() throws {
      let lab = try CardLab(programs: BuiltTool.directory, watching: nil, hasRemote: true, isTapped: true)
      defer { lab.shutDown() }
      let tap = try #require(lab.tap)
      let meddler = Meddler()
      tap.set { meddler.pass($0, $1) }

      let own = try lab.remote.run("GRASS_CONFIG=/tmp/me grassctl key new > /dev/null && cat /tmp/me/id.pub")
      try #require(own.status == 0, "\(own.text)")
      let started = try lab.card.run(
        """
        umask 077 && linkcheck pattern /tmp/memory && echo 'read,watch \(own.text)' > /tmp/authorized_keys || exit 1
        grassd --memory /tmp/memory --listen \(Self.served) --slots 16 --keys /tmp/authorized_keys > /tmp/out 2> /tmp/log &
        for i in $(seq 300); do grep -q ^key /tmp/out && break; kill -0 $! 2> /dev/null || break; sleep 0.1; done
        grep ^key /tmp/out && exit 0
        cat /tmp/out /tmp/log; exit 1
        """)
      try #require(started.status == 0, "\(started.text)")
      let key = started.text.dropFirst("key ".count).trimmingCharacters(in: .whitespacesAndNewlines)
      func sealed(_ options: String) -> String {
        "linkcheck sealed \(Self.served) --identity /tmp/me/id --device '\(key)' \(options)"
      }

      let quiet = try lab.remote.run(sealed("--seconds 3"), timeout: .seconds(60))
      let seconds = Second.all(in: quiet.text)
      // A machine that is busy elsewhere may be too slow for a first session, never wrong.
      #expect(quiet.status == 0 && !quiet.text.contains("false"), "\(quiet.text)")
      #expect((seconds.last?.right ?? 0) > 0, "\(quiet.text)")
      // Who cannot tell a sound packet makes none that anybody takes.
      #expect(meddler.soundness.sound > 100 && meddler.soundness.unsound == 0, "\(meddler.soundness)")

      /// Asks for some seconds, for the first half of them under attack.
      func attacked(_ attack: Attack) throws -> Int {
        let command = sealed("--seconds 7 --deadline 2 \(attack == .setUp ? "--renewal 3" : "")")
        _ = try lab.remote.run("(\(command) > /tmp/sealed 2>&1; echo status $? >> /tmp/sealed) &")
        meddler.begin(attack)
        usleep(3_500_000)
        let deeds = meddler.deeds
        meddler.begin(nil)
        let output = try lab.remote.run(
          "for i in $(seq 300); do grep -q status /tmp/sealed && break; sleep 0.1; done; cat /tmp/sealed",
          timeout: .seconds(60))
        #expect(output.text.contains("status 0") && !output.text.contains("false"), "\(attack): \(output.text)")
        #expect(Second.all(in: output.text).suffix(2).contains { $0.right > 0 }, "\(attack): \(output.text)")
        return deeds
      }

      for attack in Attack.allCases {
        // On a busy machine so little may be sent in seconds that there was nothing to meddle with.
        var deeds = 0
        for _ in 0..<4 where deeds == 0 { deeds = try attacked(attack) }
        #expect(deeds > 0, "\(attack) never did anything")
      }
      try aRelayLetsNewcomersIn(lab, tap, key: String(key))
    }
  }
}
