// The host names that processes see: containers have others than the host. Many structs are read in one batch each.
//
//     hostnames MEMORY
import KernelViews
import Memory

let kernel = try Kernel.open(try MemoryImage.open(CommandLine.arguments.dropFirst().first ?? ""))
let processes = try kernel.tasks().tasks
let tasks = try kernel.structs("task_struct", at: processes.map(\.address)).map { try $0.get() }
// A process that has ended has given its namespaces back.
let living = try tasks.filter { try $0.pointer("nsproxy").rawValue != 0 }
let proxies = try kernel.structs("nsproxy", at: try living.map { try $0.pointer("nsproxy") }).map { try $0.get() }
let names = try kernel.structs("uts_namespace", at: try proxies.map { try $0.pointer("uts_ns") }).map { try $0.get() }
for (task, name) in zip(living, names) {
  print(try task.signed("pid"), try name.text("name.nodename"), try task.text("comm"))
}
