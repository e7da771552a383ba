import Foundation
import KernelViews
import Lab
import Memory
import Samples
import Testing

extension OwnGuestTests {
  /// The kernels at the ends of the range: one guest each, on which every view is whole, and what it shows is the guest's.
  ///
  /// Where a struct changed, a reader may also find something else in its place: so what is shown is compared where the
  /// guest says the same. `scripts/matrix` does so with all tests, at both depths of page tables.
  @Suite(.serialized) struct KernelTests {
    @Test(arguments: otherKernels) func viewsAreWholeAndTheGuests(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      try GuestTests.ViewTests().viewsAreWhatTheGuestSays(kind)
      let files = GuestTests.FileViewTests()
      try files.mountsAreThoseOfMountinfo(kind)
      try files.filesAreThoseOfProc(kind)
      try files.mappingsAreThoseOfMaps(kind)
      try GuestTests.NetworkTests().networkIsThatOfTheGuest(kind)
      let usage = GuestTests.UsageTests()
      try usage.memoryIsWhatTheGuestSays(kind)
      try usage.slabCachesAreThoseOfSlabinfo(kind)
      try GuestTests.WaitingTests().whatWaitsIsWhatTheGuestSays(kind)
      try GuestTests.HookTests().whatTheKernelCallsIsWhatTheGuestSays(kind)
      try everyViewIsWhole(guest)
      try typesOfModulesAreRead(guest)
    }

    private func everyViewIsWhole(_ guest: Guest) throws {
      // The script itself must not hold what is looked for.
      let output = try guest.run(
        """
        a=GRASS; echo "$a-kernel-needle-4711" > /tmp/needle
        MODE=locks /bin/workload > /dev/null 2>&1 & echo $! > /tmp/lockers; sleep 1; pidof files
        """
      ).text
      defer { _ = try? guest.run("kill $(cat /tmp/lockers)") }
      let process = try #require(Int32(output.filter(\.isNumber)), "\(output)")
      let kernel = try Kernel.open(try MemoryImage.open(guest.memoryPath))
      let subject = LiveView.Subject(kernel: kernel, process: process, text: Array("GRASS-kernel-needle-4711".utf8))
      for view in LiveView.all {
        do {
          let look = try view.look(subject)
          #expect(look.marks == 0, "\(view.name) marks \(look.marks) parts")
          #expect(!look.lines.isEmpty || view.canBeEmpty, "\(view.name) shows nothing")
        } catch {
          Issue.record("\(view.name) is refused: \(error)")
        }
      }
    }

    /// Types that only a module has, against its own file.
    private func typesOfModulesAreRead(_ guest: Guest) throws {
      guard try GuestTests.ExpertTests.loadDevices(guest) else { return }
      let grassctl = BuiltTool(name: "grassctl")
      let source = ["--memory", guest.memoryPath]
      // Kernels until 5.10 keep no types of modules.
      guard try guest.run("[ -e /sys/kernel/btf/pktgen ]").status == 0 else {
        #expect(try grassctl.run(["types", "pktgen_dev"] + source).errors.contains("pktgen_dev"))
        return
      }
      let text = try grassctl.run(["types", "pktgen_dev"] + source).text
      #expect(text.hasPrefix("struct pktgen_dev {\n") && text.contains("struct net_device *odev;"), "\(text)")
      // What a thread of the module works on: its first CPU is 0, its task the thread.
      let thread = try #require(
        try grassctl.json(["ps"] + source).first { $0["comm"] as? String == "kpktgend_0" }?["task_struct"] as? String)
      func read(_ words: String...) throws -> String {
        "\(try grassctl.json(["read"] + words + source).first?["value"] ?? "")"
      }
      let work = try read("kthread", try read("task_struct", thread, ".worker_private"), ".data")
      #expect(try read("pktgen_thread", work, ".cpu") == "0")
      #expect(try read("pktgen_thread", work, ".tsk") == thread)
    }
  }
}
