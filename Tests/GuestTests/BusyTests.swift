import Foundation
import KernelViews
import Lab
import Memory
import Testing

extension GuestTests {
  /// Every view of a guest that changes while it is looked at: again and again, without a crash or a hang.
  ///
  /// `GRASS_REPETITIONS` says how often; the default is short enough for every run of the tests.
  @Suite(.serialized) struct BusyTests {
    @Test(arguments: ExpertTests.kinds) func viewsOfABusyGuestStand(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let repetitions = Int(ProcessInfo.processInfo.environment["GRASS_REPETITIONS"] ?? "") ?? 20
      _ = try guest.run(
        """
        (while :; do
          for i in 1 2 3 4 5 6 7 8; do (head -c 300000 /dev/zero | tail -c 100 > /tmp/churn$i) & done; wait; rm -f /tmp/churn*
        done) > /dev/null 2>&1 < /dev/null &
        echo $! > /tmp/churner
        """)
      let kernel = try Kernel.open(try MemoryImage.open(guest.memoryPath))
      let views: [(name: String, faults: () throws -> Int)] = [
        ("ps", { try kernel.tasks(TaskQuery(includesThreads: true)).faults.count }),
        (
          "dmesg",
          {
            _ = try kernel.log()
            return 0
          }
        ),
        (
          "info",
          {
            _ = try kernel.host()
            return 0
          }
        ),
        ("free", { try kernel.memoryInfo().fault == nil ? 0 : 1 }),
        ("vmstat", { try kernel.vmStatistics().faults.count }),
        ("slabtop", { try kernel.slabs().faults.count }),
        (
          "psi",
          {
            _ = try kernel.pressure()
            return 0
          }
        ), ("top", { try kernel.processors().faults.count }),
        ("interrupts", { try kernel.interrupts().faults.count }),
        ("ss", { try kernel.sockets().faults.count }),
        ("ip", { try kernel.network().faults.count }),
        ("hooks", { try kernel.hooks(Set(Hook.Kind.allCases)).faults.count }),
        ("bpf", { try kernel.bpf().faults.count }),
        ("files", { try kernel.cachedFiles().faults.count }),
        ("timers", { try kernel.timers().faults.count }),
        ("workqueues", { try kernel.workQueues().faults.count }),
        ("locks", { try kernel.locks().faults.count }),
        (
          "ps --environ …",
          {
            let tasks = try kernel.tasks().tasks
            return try kernel.details(of: tasks, [.environment, .namespaces, .controlGroups, .privileges]).faults.count
          }
        ), ("stack", { try kernel.stacks(of: try kernel.tasks().tasks).faults.count }),
        ("lsns", { try kernel.namespaces().faults.count }), ("cgroups", { try kernel.controlGroups().faults.count }),
      ]
      for view in views {
        var (torn, refused) = (0, 0)
        let start = ContinuousClock.now
        for _ in 0..<repetitions {
          do {
            if try view.faults() > 0 { torn += 1 }
          } catch {
            refused += 1
          }
        }
        let each = (ContinuousClock.now - start) / repetitions
        print(
          "\(view.name): \(repetitions) times, \(torn) marked as torn, \(refused) refused, \(each) each"
        )
        #expect(
          refused <= repetitions / 10, "\(view.name) was refused \(refused) of \(repetitions) times"
        )
      }
      _ = try guest.run("kill $(cat /tmp/churner); wait")
    }
  }
}
