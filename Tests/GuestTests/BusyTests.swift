import Foundation
import KernelInfo
import KernelViews
import Lab
import Memory
import Paging
import Samples
import Testing

extension GuestTests {
  /// Every view of a guest that changes while it is looked at: again and again, without a crash or a hang, and without
  /// something wrong that is not marked.
  ///
  /// `GRASS_REPETITIONS` says how often; the default is short enough for every run of the tests.
  @Suite(.serialized) struct BusyTests {
    /// What a view did in all its repetitions.
    private struct Tally {
      /// Looks that read again until nothing was torn, that said that something is torn, and that failed.
      var (repetitions, retried, marked, refused) = (0, 0, 0, 0)
      /// How often a look without a mark lacked something, and what it showed that was not there before.
      var missing: [String: Int] = [:]
      var appeared: [String: Int] = [:]
      var (total, longest) = (Duration.zero, Duration.zero)
      var errors: Set<String> = []
    }

    @Test(arguments: standardGuests) func viewsOfABusyGuestStand(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let wanted = Int(ProcessInfo.processInfo.environment["GRASS_REPETITIONS"] ?? "")
      let subject = try prepare(guest)
      // Others find the guest as it was: without this one's processes, mounts and control groups.
      defer {
        _ = try? guest.run(
          """
          kill $(cat /tmp/busy-lockers); [ -e /tmp/churner ] && kill -9 $(cat /tmp/churner) && sleep 3
          rm -f /tmp/busy-needle /tmp/busy-lockers /tmp/locked /tmp/churn[1-8] /tmp/churner
          rmdir /tmp/churn-group/churn*; umount /tmp/churn-mount; umount /tmp/churn-group
          rmdir /tmp/churn-mount /tmp/churn-group
          """, timeout: .seconds(120))
      }
      let before = try LiveView.all.map { try $0.look(subject) }
      let rate = try startChurn(guest)
      let forks = try value(of: "total_forks", subject)
      var tallies: [Tally] = []
      var forksMeanwhile: [UInt64] = []
      for (view, known) in zip(LiveView.all, before) {
        let start = try value(of: "total_forks", subject)
        // Searches read a GiB each.
        tallies.append(repeated(view, subject, known.lines, count: wanted ?? (view.isSearch ? 1 : 12)))
        forksMeanwhile.append(try value(of: "total_forks", subject) &- start)
      }
      let forked = try value(of: "total_forks", subject) &- forks
      _ = try guest.run("kill -9 $(cat /tmp/churner); rm -f /tmp/churner; sleep 3", timeout: .seconds(120))
      let after = try LiveView.all.map { try $0.look(subject) }

      print("\(kind), Linux \(subject.kernel.release): \(forked) forks meanwhile")
      print("| view | repetitions | read again | marked | refused | wrong | mean | longest | forks meanwhile |")
      print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
      for (index, view) in LiveView.all.enumerated() {
        let tally = tallies[index]
        let (known, last) = (before[index].lines, after[index].lines)
        // What is there before and after was there all the time.
        let lacking = tally.missing.filter { last.contains($0.key) }
        let strange = tally.appeared.filter { !last.contains($0.key) }
        let wrong = lacking.values.reduce(0, +) + strange.values.reduce(0, +)
        print(
          "| `\(view.name)` | \(tally.repetitions) | \(tally.retried) | \(tally.marked) | \(tally.refused) | \(wrong) | "
            + "\(Self.milliseconds(tally.total / tally.repetitions)) | \(Self.milliseconds(tally.longest)) | "
            + "\(forksMeanwhile[index]) |")
        #expect(!known.isEmpty || view.canBeEmpty, "\(view.name) shows nothing to look for")
        #expect(lacking.isEmpty, "\(view.name) did not show \(lacking.sorted { $0.key < $1.key }.prefix(5)), unmarked")
        #expect(strange.isEmpty, "\(view.name) showed \(strange.sorted { $0.key < $1.key }.prefix(5)), unmarked")
        #expect(tally.refused <= tally.repetitions / 10, "\(view.name) was refused: \(tally.errors.prefix(3))")
        #expect(tally.longest < .seconds(30))
      }
      #expect(rate > 0 && forked > 20, "the guest was not busy: \(forked) forks")
    }

    /// A guest with something for each view to find.
    private func prepare(_ guest: Guest) throws -> LiveView.Subject {
      // The script itself must not hold what is looked for.
      let output = try guest.run(
        """
        a=GRASS; for i in $(seq 1 40); do echo "$a-busy-needle-4711"; done > /tmp/busy-needle
        MODE=locks /bin/workload > /dev/null 2>&1 & echo $! > /tmp/busy-lockers
        sleep 99901 > /dev/null 2>&1 & echo $! >> /tmp/busy-lockers
        mkdir -p /tmp/churn-mount /tmp/churn-group
        mountpoint -q /tmp/churn-group || mount -t cgroup2 none /tmp/churn-group || exit 1
        sleep 1; echo; pidof files
        """)
      let process = try #require(
        output.text.split(separator: "\n").last.flatMap { Int32($0.filter(\.isNumber)) }, "\(output.text)")
      let kernel = try Kernel.open(try MemoryImage.open(guest.memoryPath))
      return LiveView.Subject(kernel: kernel, process: process, text: Array("GRASS-busy-needle-4711".utf8))
    }

    /// Lets the guest fork, exit, allocate, mount, make and leave namespaces and control groups, open sockets, until killed.
    ///
    /// - Returns: the forks of its first seconds.
    private func startChurn(_ guest: Guest) throws -> Int {
      let output = try guest.run(
        """
        (while :; do
          for i in 1 2 3 4 5 6 7 8; do (head -c 300000 /dev/zero | tail -c 100 > /tmp/churn$i) & done; wait; rm -f /tmp/churn*[0-9]
        done) > /dev/null 2>&1 < /dev/null &
        echo $! > /tmp/churner
        (while :; do
          mount -t tmpfs churn /tmp/churn-mount; dd if=/dev/zero of=/tmp/churn-mount/block bs=64k count=32
          flock /tmp/churn-mount/block true; umount /tmp/churn-mount
          mkdir /tmp/churn-group/churn$((n += 1)); rmdir /tmp/churn-group/churn$n
          unshare -n -u -i -m sh -c 'ip link set lo up; (echo | nc 127.0.0.1 99); true'
          head -c 100 /dev/null | sleep 0.01
        done) > /dev/null 2>&1 < /dev/null &
        echo $! >> /tmp/churner
        sed -n 's/^processes //p' /proc/stat; sleep 2; sed -n 's/^processes //p' /proc/stat
        """)
      let counts = output.text.split(separator: "\n").compactMap { Int($0) }
      try #require(counts.count == 2, "\(output.text)")
      return counts[1] - counts[0] - 2
    }

    private func value(of variable: String, _ subject: LiveView.Subject) throws -> UInt64 {
      let address = try #require(subject.kernel.symbols.address(of: variable))
      let bytes = try subject.kernel.addressSpace.read(address, count: 8)
      return try ByteReader(bytes.span.bytes).u64(0)
    }

    private func repeated(_ view: LiveView, _ subject: LiveView.Subject, _ known: Set<String>, count: Int) -> Tally {
      var tally = Tally()
      tally.repetitions = count
      for _ in 0..<count {
        let retries = TornReads.retries
        let start = ContinuousClock.now
        do {
          let look = try view.look(subject)
          if look.marks > 0 { tally.marked += 1 } else if TornReads.retries > retries { tally.retried += 1 }
          if look.marks == 0 {
            for line in known where !look.lines.contains(line) { tally.missing[line, default: 0] += 1 }
            if let mayAppear = view.mayAppear {
              for line in look.lines where !known.contains(line) && !mayAppear(line) {
                tally.appeared[line, default: 0] += 1
              }
            }
          }
        } catch {
          tally.refused += 1
          tally.errors.insert("\(error)")
        }
        let time = ContinuousClock.now - start
        // Something is to change before the next look, however fast the view is.
        usleep(10_000)
        tally.total += time
        tally.longest = max(tally.longest, time)
      }
      return tally
    }

    private static func milliseconds(_ time: Duration) -> String {
      String(format: "%.1f ms", Double(time.components.attoseconds) / 1e15 + Double(time.components.seconds) * 1000)
    }
  }
}
