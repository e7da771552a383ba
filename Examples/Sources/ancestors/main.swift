// Who started a process, and who started that: pointers of the kernel, followed.
//
//     ancestors MEMORY PID
import Glibc
import KernelViews
import Memory

let arguments = CommandLine.arguments.dropFirst()
let kernel = try Kernel.open(try MemoryImage.open(arguments.first ?? ""))
let pid = Int32(arguments.dropFirst().first ?? "") ?? 1
guard let process = try kernel.tasks().tasks.first(where: { $0.tid == pid }) else {
  print("there is no process \(pid)")
  exit(1)
}

var task = try kernel.struct("task_struct", at: process.address)
print(try task.signed("pid"), try task.text("comm"))
// The watched memory may lie, and a chain may be a ring.
for _ in 0..<1000 where try task.signed("pid") != 0 {
  task = try task.follow("real_parent", to: "task_struct")
  print(try task.signed("pid"), try task.text("comm"))
}
