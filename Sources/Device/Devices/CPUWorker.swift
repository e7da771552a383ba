import CMailbox
import CRegion
import CRuntime
import Glibc
import Host
import Region

/// The thread that runs a CPU device's monitors, one run after the other, its lanes in turn.
final class CPUWorker: @unchecked Sendable {
  // `monitors` belongs to the mailbox but for its job, which is handed back and forth as grass_mailbox.h says. `seen` is
  // the polling thread's. All else is constant from init to stop.
  private let monitors: UnsafeMutablePointer<grass_monitors>
  /// The job among them: both threads reach it at once, so neither goes through the whole.
  private let job: UnsafeMutablePointer<grass_job>
  private let names: UnsafeMutableBufferPointer<grass_monitor_answer>
  private let machine: UnsafeMutablePointer<grass_machine>
  private let output: UnsafeMutablePointer<UInt64>
  private let code: MonitorProgram.NativeCode
  private let semaphore: UnsafeMutablePointer<sem_t>
  private var seen: UInt64 = 0
  private var thread: DedicatedThread?

  /// Lanes that a run may have; on a processor they come one after the other.
  private static let mostLanes: UInt32 = 1 << 16
  /// Steps that a run may take, all lanes together: some seconds, and enough to look at 8 GiB of memory.
  private static let mostBudget: UInt64 = 1 << 28
  /// Items that a stage of a run may leave for the next.
  private static let mostItems = 1 << 16
  private static let end = UInt64.max

  /// Starts the worker's thread; `segments`, the watched memory in ascending order, have to outlive it.
  ///
  /// - Throws: ``DeviceError`` where there can be no thread.
  init(
    _ code: MonitorProgram.NativeCode, names answers: [grass_monitor_answer], kernel: KernelMapping,
    segments: UnsafeBufferPointer<grass_mapped_segment>, outputSize: Int
  ) throws(DeviceError) {
    self.code = code
    names = .allocate(capacity: max(1, answers.count))
    _ = names.initialize(from: answers)
    machine = .allocate(capacity: 1)
    machine.initialize(to: grass_machine())
    machine.pointee.segments = segments.baseAddress
    machine.pointee.segment_count = UInt64(segments.count)
    kernel.fill(&machine.pointee)
    output = .allocate(capacity: outputSize / 8)
    output.initialize(repeating: 0, count: outputSize / 8)
    monitors = .allocate(capacity: 1)
    monitors.initialize(to: grass_monitors())
    job = Self.field(\.job, of: monitors)
    monitors.pointee.names = UnsafePointer(names.baseAddress)
    monitors.pointee.count = UInt32(answers.count)
    monitors.pointee.most_workers = 1
    monitors.pointee.lanes_per_worker = Self.mostLanes
    monitors.pointee.default_lanes = 1
    monitors.pointee.most_budget = Self.mostBudget
    semaphore = .allocate(capacity: 1)
    semaphore.initialize(to: sem_t())
    sem_init(semaphore, 0, 0)
    do throws(SystemCallError) {
      let unowned = Unowned(worker: self)
      thread = try DedicatedThread(name: "grass-worker") { unowned.worker.work() }
    } catch {
      throw DeviceError(.threadFailed(error.description))
    }
  }

  private struct Unowned: @unchecked Sendable {
    // The thread is joined before the object goes.
    unowned(unsafe) let worker: CPUWorker
  }

  /// Lets a mailbox, whose thread does not run, hand its runs to this worker.
  func attach(to mailbox: UnsafeMutablePointer<grass_mailbox>) {
    grass_mailbox_set_monitors(
      mailbox, monitors, UnsafeMutableRawPointer(output).assumingMemoryBound(to: UInt8.self))
  }

  /// Wakes the worker where a run waits for it.
  ///
  /// - Returns: whether one is under way.
  func wake() -> Bool {
    let turn = grass_job_turn(job)
    if turn != seen {
      seen = turn
      sem_post(semaphore)
    }
    return monitors.pointee.is_running
  }

  /// Ends the run at work as the polling thread would, then the worker.
  ///
  /// `step` is one step of the mailbox.
  func finish(_ step: () -> UInt32) {
    while wake() {
      _ = step()
      SystemCall.sleep(nanoseconds: 100_000)
    }
    stop()
  }

  func stop() {
    guard let thread else { return }
    self.thread = nil
    grass_job_end(job)
    sem_post(semaphore)
    thread.join()
  }

  deinit {
    stop()
    sem_destroy(semaphore)
    semaphore.deallocate()
    monitors.deallocate()
    output.deallocate()
    machine.deallocate()
    names.deallocate()
  }

  private func work() {
    let state = UnsafeMutablePointer<grass_lane_state>.allocate(capacity: 1)
    state.initialize(to: grass_lane_state())
    let items = UnsafeMutablePointer<grass_item>.allocate(capacity: 2 * Self.mostItems)
    defer {
      state.deallocate()
      items.deallocate()
    }
    while true {
      while sem_wait(semaphore) != 0 {}
      guard grass_job_turn(job) != Self.end else { return }
      grass_job_run(job, machine, code.dispatch, state, items, UInt64(Self.mostItems), Self.mostBudget)
      grass_job_finish(job)
    }
  }

  /// Where a field of a C struct lies.
  private static func field<Struct, Field>(
    _ path: KeyPath<Struct, Field>, of pointer: UnsafeMutablePointer<Struct>
  ) -> UnsafeMutablePointer<Field> {
    // A stored field of a C struct always has an offset.
    UnsafeMutableRawPointer(pointer).advanced(by: MemoryLayout<Struct>.offset(of: path) ?? 0)
      .assumingMemoryBound(to: Field.self)
  }
}
