import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import Paging
import TaskViews

/// Where a thread waits in the kernel: /proc/PID/wchan.
///
/// Source: fs/proc/base.c, `proc_pid_wchan`; arch/x86/kernel/process.c, `__get_wchan`.
enum WaitingPlace {
  /// Functions that wait for others do not count (`in_sched_functions`).
  private static let sections = [("__sched_text_start", "__sched_text_end"), ("__lock_text_start", "__lock_text_end")]

  /// Whether an address is in a function that waits for others.
  static func isWaiting(_ address: VirtualAddress, _ kernel: Kernel) -> Bool {
    sections.contains { start, end in
      guard let start = kernel.symbols.address(of: start), let end = kernel.symbols.address(of: end) else {
        return false
      }
      return start <= address && address < end
    }
  }

  static func bytes(_ record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    guard !record.task.isRunning else { return [UInt8(ascii: "0")] }
    guard let stack = try kernel.stacks(of: [record.task]).stacks.first else { throw ShadowError.missing }
    let frame = stack.frames.first { frame in
      !frame.isGuess && !isWaiting(frame.address, kernel)
    }
    if let frame { return Array((frame.place?.name ?? "0").utf8) }
    if case .broken(let fault) = stack.ending { throw fault }
    return [UInt8(ascii: "0")]
  }
}
