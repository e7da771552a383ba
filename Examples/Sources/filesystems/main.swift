// The file systems of a host, mounted or internal to the kernel: a list of the kernel, member by member.
//
//     filesystems MEMORY
import KernelViews
import Memory

let kernel = try Kernel.open(try MemoryImage.open(CommandLine.arguments.dropFirst().first ?? ""))
for superBlock in try kernel.list("super_blocks", of: "super_block", through: "s_list") {
  let device = try superBlock.unsigned("s_dev")
  print("\(device >> 20):\(device & 0xfffff)", try superBlock.text("s_id"))
}
