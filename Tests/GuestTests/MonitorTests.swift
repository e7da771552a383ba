import Foundation
import KernelInfo
import KernelViews
import LLView
import Lab
import Memory
import Monitor
import Testing

extension GuestTests {
  /// One source of each monitor on every kernel, against the views of the same memory.
  @Suite(.serialized) struct MonitorTests {
    @Test(arguments: guestKinds)
    func tasksAreWhatTheViewSays(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let kernel = try Kernel.open(try MemoryImage.open(guest.memoryPath))
      let memory = try #require(kernel.memory as? FileMemory)
      let bitcode = try FrontEnd().compile(monitorPath("ps"))
      let monitor = try NativeMonitor(BoundMonitor(bitcode, name: "ps", for: KernelNames(kernel.found)))
      let query = TaskQuery(includesThreads: true, includesCommandLines: false)

      // The guest lives on between two looks: what both views agree on must be in the records between them.
      for (lanes, linear) in [(1, true), (7, true), (64, false)] {
        let machine = WatchedMachine(
          memory, space: kernel.addressSpace, slide: kernel.found.coreInfo.kernelOffset, usesLinearRanges: linear)
        let before = try kernel.tasks(query)
        let result = monitor.run(on: machine, lanes: lanes)
        let after = Dictionary(uniqueKeysWithValues: try kernel.tasks(query).tasks.map { ($0.tid, $0) })
        #expect(result.faults.isEmpty)
        let seen = Dictionary(result.records.map(SeenTask.init).map { ($0.tid, $0) }) { first, _ in first }
        #expect(seen.count == result.records.count)
        #expect(seen.count > 80)
        for task in before.tasks {
          guard let later = after[task.tid] else { continue }
          let record = try #require(seen[task.tid], "task \(task.tid) is missing")
          #expect(record.tgid == task.tgid)
          #expect(record.parent == task.ppid || record.parent == later.ppid)
          #expect(record.uid == task.uid || record.uid == later.uid)
          #expect(record.startTime == task.startTime)
          // A worker's name is longer in the view, which adds what it works on.
          let comm = record.comm.prefix { $0 != 0 }
          #expect(
            task.comm.starts(with: comm) || later.comm.starts(with: comm) || comm.starts(with: Array("kworker".utf8)))
        }
        let known = Set(before.tasks.map(\.tid)).union(after.keys)
        // One that began and ended between the two looks is seen by neither.
        #expect(seen.keys.filter { !known.contains($0) }.count <= 2)
      }
    }
  }
}

/// A monitor's source.
private func monitorPath(_ name: String) -> String {
  URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../monitors/\(name).c").standardized.path
}

/// A record of monitors/ps.c.
private struct SeenTask {
  let tid, tgid, parent: Int32
  let uid: UInt32
  let startTime: UInt64
  let comm: [UInt8]

  init(_ record: MonitorResult.Record) {
    let bytes = Array(record.bytes)
    let reader = ByteReader(bytes.span.bytes)
    func number(_ offset: Int) -> UInt32 { (try? reader.u32(offset)) ?? .max }
    tid = Int32(bitPattern: number(0))
    tgid = Int32(bitPattern: number(4))
    parent = Int32(bitPattern: number(8))
    uid = number(12)
    startTime = (try? reader.u64(24)) ?? .max
    comm = Array(bytes.suffix(16))
  }
}
