import Foundation
import Lab
import Testing

/// Sanitized programs need more memory and time than the guests here have.
let isSanitized = BuiltTool.directory.path.contains("san/")

extension OwnGuestTests {
  /// Real RDMA, by software devices: a card guest that watches another's RAM over PCI, and a remote guest that asks it.
  @Suite(.serialized, .enabled(if: !isSanitized), .guests(3)) struct VerbsTests {
    private static let served = "verbs://10.71.0.1:7500"

    /// Runs a command of the remote host that must end with status 0, and returns its output.
    @discardableResult
    private func remote(_ lab: CardLab, _ command: String, timeout: Duration = .seconds(120)) throws -> String {
      let output = try lab.remote.run(command, timeout: timeout)
      #expect(output.status == 0, "\(command): \(output.text)")
      return output.text
    }

    private func serve(_ lab: CardLab, _ options: String = "") throws {
      let output = try lab.card.run(
        """
        linkcheck serve \(options) \(Self.served) > /tmp/served 2>&1 &
        for i in $(seq 100); do grep -q ready /tmp/served && exit 0; sleep 0.1; done
        cat /tmp/served; exit 1
        """)
      try #require(output.status == 0, "\(output.text)")
    }

    /// Memory like a GPU's: a card that takes dma-bufs keeps its promises there, too.
    ///
    /// Software devices take none so far, and the remote host is told both why and what else was tried.
    @Test(.guests(1)) func aRegionInADMABufferIsServedOrRefusedByName() throws {
      // The first kernel here that makes dma-bufs of its own memory.
      let lab = try CardLab(programs: BuiltTool.directory, watching: nil, hasRemote: false, kernel: "6.12")
      defer { lab.shutDown() }
      try serve(lab, "--dma-buf")
      let output = try lab.remote.run("linkcheck promises \(Self.served)", timeout: .seconds(120))
      if output.status == 0 {
        #expect(!output.text.contains("broken"), "\(output.text)")
      } else {
        let lines = output.text.split(separator: "\n")
        #expect(lines.count > 10 && lines.allSatisfy { $0.hasPrefix("broken") }, "\(output.text)")
        let why = "a GPU's memory cannot be registered: as a dma-buf, Operation not supported; by its address"
        #expect(output.text.contains(why), "\(output.text)")
      }
    }

    @Test(.guests(2)) func softRoCEKeepsThePromises() throws {
      let lab = try CardLab(
        programs: BuiltTool.directory, watching: nil, hasRemote: true, tools: Self.hasPeer ? [Self.peer] : [])
      defer { lab.shutDown() }
      try serve(lab)
      let promises = try remote(lab, "linkcheck promises \(Self.served)")
      #expect(promises.split(separator: "\n").count == 11, "\(promises)")
      #expect(!promises.contains("broken"), "\(promises)")

      let memory = try remote(lab, "linkcheck memory \(Self.served)")
      #expect(memory.contains("registered"), "\(memory)")

      // The server's process can be stopped and killed where the suite runs beside it.
      let peer = try lab.card.run("linkcheck peer --one-sided verbs://10.71.0.1:0", timeout: .seconds(120))
      #expect(peer.status == 0, "\(peer.text)")
      #expect(peer.text.contains("kept stoppedPeerIsReadAndWritten"), "\(peer.text)")

      try readsPastTheDevice(lab)
      try losesOneConnection(lab)

      for disturbance in ["loss 1%", "loss 5%", "delay 20ms"] {
        try lab.disturb(lab.card, disturbance)
        try lab.disturb(lab.remote, disturbance)
        let soak = try remote(lab, "linkcheck soak --seconds 8 \(Self.served)")
        #expect(soak.contains("rounds"), "\(disturbance): \(soak)")
      }
      try lab.disturb(lab.remote, nil)

      try lab.disturb(lab.card, nil)

      // A cut of three seconds while operations are under way.
      try startSoak(lab, "--seconds 10")
      try lab.disturb(lab.card, "loss 100%")
      usleep(3_000_000)
      try lab.disturb(lab.card, nil)
      let cut = try endSoak(lab)
      #expect(cut.contains("status 0"), "\(cut)")

      // One of which nothing that was under way survives: errors in time, and then a new session.
      try startSoak(lab, "--seconds 18 --deadline 2")
      try lab.disturb(lab.card, "loss 100%")
      usleep(9_000_000)
      try lab.disturb(lab.card, nil)
      let longCut = try endSoak(lab)
      #expect(longCut.contains("status 0"), "\(longCut)")
      #expect(longCut.contains("error link \(Self.served): "), "\(longCut)")
      let healed = try remote(lab, "linkcheck soak --seconds 2 \(Self.served)")
      #expect(healed.contains("rounds") && !healed.contains("error"), "\(healed)")

      // The card dies: whoever asks gets an error that says so, in time.
      try startSoak(lab, "--seconds 12 --deadline 2")
      lab.card.shutDown()
      let death = try endSoak(lab)
      #expect(death.contains("status 0"), "\(death)")
      #expect(death.contains("error link \(Self.served): "), "\(death)")
    }

    /// Debian's measure of what a card can do, perftest's, where GRASS_RATES asks for rates.
    private static let peer = "/usr/bin/ib_read_bw"
    private static var hasPeer: Bool {
      ProcessInfo.processInfo.environment["GRASS_RATES"] != nil && FileManager.default.isExecutableFile(atPath: peer)
    }

    /// The whole memory by reads that no processor there takes part in, some packets of which get lost.
    private func readsPastTheDevice(_ lab: CardLab) throws {
      // Emulated PCI memory cannot be pinned, so it is a file's.
      func dump(_ size: Int, _ port: Int, _ ways: [String], losing loss: String? = nil) throws {
        let url = "verbs://10.71.0.1:\(port)"
        let served = try lab.card.run(
          """
          dd if=/dev/urandom of=/tmp/memory bs=1M count=\(size) 2> /dev/null
          grassd --memory /tmp/memory --listen \(url) --slots 16 --acquire-unsealed > /tmp/open 2>&1 & echo $! > /tmp/open.pid
          for i in $(seq 100); do grep -q ready /tmp/open && break; sleep 0.1; done
          sha256sum < /tmp/memory
          """, timeout: .seconds(60))
        defer { _ = try? lab.card.run("kill $(cat /tmp/open.pid); rm -f /tmp/memory") }
        let digest = served.text.split(separator: " ").first.map(String.init) ?? ""
        try #require(digest.count == 64, "\(served.text)")
        try lab.disturb(lab.card, loss)
        defer { try? lab.disturb(lab.card, nil) }
        let command = "grassctl dump --host \(url) --timeout 60 --format raw -o - --rounds 0"
        for way in ways {
          let output = try lab.remote.run("\(command) \(way) 2> /dev/null | sha256sum", timeout: .seconds(120))
          #expect(output.text.contains(digest), "\(way) \(loss ?? ""): \(output.text)")
          guard Self.hasPeer, loss == nil else { continue }
          let rate = try lab.remote.run(
            """
            for i in 1 2 3; do \(command) --progress \(way) 2>&1 > /dev/null | grep /s | tail -n 1; done
            """, timeout: .seconds(200))
          print("\(way): \(rate.text)")
        }
      }
      try dump(Self.hasPeer ? 48 : 16, 7502, ["", "--unsealed"])
      try dump(2, 7503, ["--unsealed"], losing: "loss 5%")
      if Self.hasPeer {
        _ = try lab.card.run("ib_read_bw -d rxe0 -s 1048576 -n 48 -x 1 > /tmp/peer 2>&1 & sleep 2")
        print(
          try lab.remote.run(
            "ib_read_bw -d rxe0 -s 1048576 -n 48 -x 1 10.71.0.1 2>&1 | tail -n 4", timeout: .seconds(60)
          )
          .text)
      }
      let closed = try lab.remote.run(
        "grassctl dump --host \(Self.served) --unsealed -o - > /dev/null", timeout: .seconds(60))
      #expect(closed.status != 0, "\(closed.text)")
    }

    /// Drops all that goes to one of a session's two queue pairs: it goes on with the other, and gets a new second one.
    private func losesOneConnection(_ lab: CardLab) throws {
      let pairs = "rdma resource show qp | grep 'type RC'"
      try startSoak(lab, "--seconds 12 --deadline 10")
      try remote(lab, "for i in $(seq 100); do [ $(\(pairs) | wc -l) = 2 ] && exit 0; sleep 0.1; done; exit 1")
      // The packet's destination queue pair: 24 bits, 5 bytes into what follows the headers of IP and UDP.
      try remote(
        lab,
        """
        lost=$(\(pairs) | sed -n '1s/.* rqpn \\([0-9]*\\) .*/\\1/p') && echo $lost > /tmp/lost &&
        /bin/tc qdisc add dev eth0 root handle 1: prio bands 4 &&
        /bin/tc qdisc add dev eth0 parent 1:4 netem loss 100% &&
        /bin/tc filter add dev eth0 parent 1: protocol ip u32 match u32 $lost 0x00ffffff at 32 flowid 1:4
        """)
      try remote(
        lab,
        """
        for i in $(seq 80); do
          \(pairs) | grep -q " rqpn $(cat /tmp/lost) " || { [ $(\(pairs) | wc -l) = 2 ] && exit 0; }
          sleep 0.1
        done
        \(pairs); exit 1
        """)
      let soak = try endSoak(lab)
      #expect(soak.contains("status 0") && !soak.contains("error"), "\(soak)")
      try lab.disturb(lab.remote, nil)
    }

    /// Starts a soak on the remote host, and gives it two seconds to get under way.
    private func startSoak(_ lab: CardLab, _ arguments: String) throws {
      _ = try lab.remote.run(
        "(linkcheck soak \(arguments) \(Self.served) > /tmp/soak 2>&1; echo status $? >> /tmp/soak) &")
      try remote(
        lab, "for i in $(seq 300); do grep -q begun /tmp/soak && exit 0; sleep 0.1; done; cat /tmp/soak; exit 1")
      usleep(1_000_000)
    }

    private func endSoak(_ lab: CardLab) throws -> String {
      try remote(
        lab, "for i in $(seq 400); do grep -q status /tmp/soak && break; sleep 0.1; done; cat /tmp/soak")
    }

    /// A module for the watched guest's kernel, where it could be built.
    private let hidingModule = try? KernelStore().kernel("6.1").module("hide")

    /// Four sessions take all slots; one is killed in the middle of its requests.
    ///
    /// The others notice nothing, and its slots come back.
    private func sharesSlots(_ lab: CardLab) throws {
      let output = try remote(
        lab,
        """
        for i in 1 2 3; do grassctl heartbeat --host \(lab.url) --count 200 --interval 0.02 > /tmp/beat$i 2>&1 & done
        for i in $(seq 100); do [ $(rdma resource show qp | grep -c 'type RC') -ge 6 ] && break; sleep 0.1; done
        linkcheck vanish \(lab.url)
        for i in $(seq 50); do grassctl heartbeat --host \(lab.url) --count 1 && break; sleep 0.2; done
        wait
        grep -h answered /tmp/beat1 /tmp/beat2 /tmp/beat3
        """)
      // Of sixteen, while three others have one each.
      #expect(output.contains("took 3 slots"), "\(output)")
      #expect(output.contains("1 sent, 1 answered"), "\(output)")
      #expect(output.components(separatedBy: "200 sent, 200 answered, 0.0% lost").count == 4, "\(output)")
    }

    @Test func theCardGoesOnWhateverHappensToTheHost() throws {
      let lab = try CardLab(
        programs: BuiltTool.directory,
        watching: GuestOptions(
          memory: 512, sleepers: 5,
          network: .init(address: "10.72.0.1", cable: "grass-loose-\(UUID().uuidString)", holdsCable: true),
          programs: hidingModule.map { [$0.path] } ?? []),
        hasRemote: true)
      defer { lab.shutDown() }
      let watched = try #require(lab.watched)

      /// Heartbeat and tasks as the remote host sees them. Finding the kernel anew takes it seconds each time.
      func look(_ occasion: String) throws -> String {
        let heartbeat = try remote(lab, "grassctl heartbeat --host \(lab.url) --timeout 20 --count 3 --interval 0.1")
        #expect(heartbeat.contains("3 sent, 3 answered"), "\(occasion): \(heartbeat)")
        let tasks = try remote(lab, "grassctl ps --host \(lab.url)")
        #expect(tasks.contains("[kthreadd]"), "\(occasion): \(tasks)")
        return tasks
      }
      func log() throws -> String { try remote(lab, "grassctl dmesg --host \(lab.url)") }

      _ = try look("at first")
      // Nobody else asks meanwhile: the monitor's own count agrees. Both ends are in the card, to see both memories.
      let soak = try lab.card.run(
        "grassctl bench soak --host \(lab.url) --heartbeats 1000 --requests 100 --daemon $(cat /tmp/grassd.pid) 2>&1",
        timeout: .seconds(120))
      #expect(soak.status == 0 && soak.text.contains("1100 answered, 1100 served"), "\(soak.text)")
      try sharesSlots(lab)

      if hidingModule != nil {
        let hidden = try watched.run(
          """
          sleep 4242 > /dev/null 2>&1 &
          insmod /modules/hide.ko victim=$! || exit 1
          ps | grep 'sleep [4]242' || echo hidden $!
          """)
        #expect(hidden.text.contains("hidden"), "\(hidden.text)")
        let victim = hidden.text.split(separator: "\n").last?.split(separator: " ").last ?? ""
        let seen = try look("while a module hides a process from its own ps")
        #expect(
          seen.split(separator: "\n").contains { $0.contains("sleep 4242") && $0.contains(" \(victim) ") }, "\(seen)")
      }

      let removed = try watched.run("echo 1 > $(readlink -f /sys/class/net/eth0/device/..)/remove; ls /sys/class/net")
      #expect(!removed.text.contains("eth0"), "\(removed.text)")
      _ = try look("without its network card")

      _ = try watched.run("for i in 1 2 3; do tail /dev/zero & done; wait", timeout: .seconds(120))
      _ = try look("after an out-of-memory storm")
      #expect(try log().contains("Out of memory: Killed process"))

      let hang = try watched.hang()
      #expect(throws: LabError.self) { try watched.run("true", timeout: .seconds(3)) }
      _ = try look("while all its CPUs hang with interrupts off")
      try watched.endHang(hang)
      #expect(try watched.run("echo alive").text == "alive\n")

      try watched.pause()
      _ = try look("while its CPUs stand still")
      try watched.resume()

      // The shell is the one process that its own kill spares, and panics the kernel later on.
      try watched.send("kill -9 -1; sleep 20; echo c > /proc/sysrq-trigger")
      usleep(3_000_000)
      let killed = try look("after kill -9 -1")
      #expect(!killed.contains("/bin/agent"), "\(killed)")

      try watched.waitForConsole("end Kernel panic")
      _ = try look("after a panic")
      #expect(try log().contains("---[ end Kernel panic - not syncing: sysrq triggered crash ]---"))
      #expect(try remote(lab, "grassctl info --host \(lab.url)").contains("PANIC"))
    }
  }
}
