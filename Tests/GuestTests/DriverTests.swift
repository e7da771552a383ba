import Foundation
import Lab
import Testing

private let driver = try? KernelStore().kernel("6.1").module("physical")

extension OwnGuestTests {
  /// A machine that looks at itself, through a driver that shows all of its memory.
  @Suite(.serialized, .enabled(if: driver != nil)) struct DriverTests {
    @Test func aMachineSeesItselfThroughADriver() throws {
      let programs = ["grassd", "grassctl"].map { BuiltTool.directory.appendingPathComponent($0).path }
      let guest = try Guest(
        GuestOptions(kernel: "6.1", memory: 1024, sleepers: 5, programs: programs + [try #require(driver).path]))
      defer { guest.shutDown() }
      func run(_ command: String) throws -> String {
        let output = try guest.run(command, timeout: .seconds(120))
        #expect(output.status == 0, "\(command): \(output.text)")
        return output.text
      }
      // Debian's kernels let nobody map RAM by /dev/mem.
      let refused = try guest.run("grassctl ps --memory /dev/mem")
      #expect(refused.status != 0 && refused.text.contains("CONFIG_STRICT_DEVMEM"), "\(refused.text)")
      let absent = try guest.run("grassctl ps --memory /dev/null")
      #expect(absent.status != 0 && absent.text.contains("does not let RAM be mapped"), "\(absent.text)")

      _ = try run("insmod /modules/physical.ko")
      // Whoever was there before and after it looked was there.
      let pids = "ls /proc | grep '^[0-9]'"
      let output = try run("\(pids); echo look; grassctl ps --memory /dev/physical; echo again; \(pids)")
      let parts = output.split(separator: "\n").split { $0 == "look" || $0 == "again" }.map(Array.init)
      try #require(parts.count == 3)
      let stayed = Set(parts[0]).intersection(parts[2])
      let seen = Set(parts[1].dropFirst().compactMap { $0.split(separator: " ").dropFirst().first })
      #expect(stayed.count > 30 && stayed.isSubset(of: seen), "\(stayed.subtracting(seen))")

      let info = try run(
        """
        grassd --memory /dev/physical --listen shm:///tmp/own > /tmp/ready 2> /tmp/grassd.log &
        for i in $(seq 100); do grep -q ready /tmp/ready && break; sleep 0.1; done
        cat /tmp/grassd.log
        grassctl info --host shm:///tmp/own
        kill $!
        """)
      #expect(info.contains("this machine's memory"), "\(info)")
      #expect(info.contains("State:          alive"), "\(info)")
    }
  }
}
