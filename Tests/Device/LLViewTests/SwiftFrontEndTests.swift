import CRuntime
import Devices
import Records
import Testing

@testable import LLView

/// Monitors in Embedded Swift, on the sample kernel.
struct SwiftFrontEndTests {
  @Test func swiftCallsItsWindow() throws {
    let monitor = try compile(
      """
      @c(sample_lane) public func lane(run: OpaquePointer) {
        var sum = UInt(sample_pid())
        for index in 0..<grass_argument(run, 0) { sum &+= index &* UInt(sample_pid()) }
        grass_emit(run, 1, 8)?.storeBytes(of: sum, as: UInt.self)
      }
      """)
    #expect(monitor.name == "sample")
    #expect(try SampleKernel.run(monitor).words == [0x1234])
    #expect(try SampleKernel.run(monitor, arguments: [5]).words == [0x1234 * 11])
    // A loop that the memory makes endless.
    let endless = try SampleKernel.run(monitor, arguments: [.max])
    #expect(endless.faults.map(\.code) == [GRASS_FAULT_BUDGET.rawValue])
  }

  @Test(arguments: [
    (
      "var numbers: [UInt] = []; for n in 0..<UInt(sample_pid()) { numbers.append(n) }; sink(numbers)", "can change"
    ),
    ("fatalError()", "assembly"),
    (
      "UnsafeMutablePointer<UInt>(bitPattern: 0xffff_8000_0000_0000 as UInt)?.pointee = 3",
      "stores to a variable of the kernel"
    ),
    ("let text: Int = true", "cannot convert value"),
  ])
  func whatMonitorsMayNotIsRefused(_ body: String, _ why: String) throws {
    let error = try #require(throws: LLViewError.self) {
      _ = try compile(
        """
        @inline(never) func sink(_ numbers: [UInt]) { for n in numbers { _ = grass_argument(nil, UInt32(n)) } }
        @c(sample_lane) public func lane(run: OpaquePointer) { \(body) }
        """)
    }
    #expect("\(error)".contains(why), "\(error)")
  }

  @Test func aMissingCompilerIsNamed() throws {
    let error = try #require(throws: LLViewError.self) {
      _ = try compile("", swiftc: "/nonexistent/swiftc")
    }
    #expect("\(error)".contains("/nonexistent/swiftc could not be run"))
  }

  @Test func whatOlderLLVMDoesNotKnowGoes() {
    let text = FrontEnd.forOlderLLVM(
      """
      define swiftcc void @f(ptr noalias swifterror captures(ret: address, provenance) %0, ptr captures(none)) {
        %1 = add nuw nsw i64 %2, 1
        %3 = icmp samesign ult i64 %1, 5, !tbaa !7
        call void @llvm.assume(i1 %3)
      }
      declare void @g(ptr initializes((0, 8), (16, 24)) %0)
      attributes #0 = { nounwind "target-cpu"="x86-64" "target-features"="+cx8,+sse" }
      """)
    #expect(
      text == """
        define void @f(ptr noalias %0, ptr) {
          %1 = add i64 %2, 1
          %3 = icmp ult i64 %1, 5
        }
        declare void @g(ptr %0)
        attributes #0 = { nounwind }
        """)
  }

  private func compile(_ source: String, swiftc: String = "swiftc") throws -> BoundMonitor {
    let folder = try TestFolder()
    defer { withExtendedLifetime(folder) {} }
    let window =
      """
      #ifdef __swift__
      #include "grass.h"
      u32 sample_pid(void);
      #else
      \(SampleKernel.prologue)
      u32 sample_pid(void) { return ((struct task *)kernel_page)->pid; }
      void sample_lane(struct grass_lane_state *run);
      MONITOR(sample) { sample_lane(run); }
      #endif

      """
    try folder.write(Array(window.utf8), to: "sample.h")
    try folder.write(Array(source.utf8), to: "sample.swift")
    let front = FrontEnd(swiftc: swiftc, includePaths: [SampleKernel.monitors])
    return try BoundMonitor(
      try front.compile(folder.path + "/sample.swift"), name: "sample", for: SampleKernel.names())
  }
}
