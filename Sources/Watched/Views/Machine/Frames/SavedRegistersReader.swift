import Binding
import KernelInfo
public import LinuxKernel
import Memory
import Paging

extension Kernel {
  /// What CPUs saved of their registers when the kernel died: by the CPU's number, the kernel's `struct elf_prstatus`.
  ///
  /// CPUs save them where a kernel for kdump is loaded, or `crash_kexec_post_notifiers` was given; then all but the one that panicked.
  /// Empty where none did, or what they saved cannot be read. Cost: four round trips. Source: kernel/crash_core.c, `crash_notes`;
  /// include/linux/elfcore.h.
  public func savedRegisters() -> [Int: [UInt8]] {
    guard let symbol = symbols.address(of: "crash_notes") else { return [:] }
    do {
      let variable = try addressSpace.pointer(at: symbol)
      guard variable.rawValue != 0 else { return [:] }
      let cpus = try cpus()
      var notes = ReadBatch<VirtualAddress>()
      for cpu in cpus { notes.add(cpu.address(of: variable), count: ProcessStatusNote.size) }
      addressSpace.read(&notes)
      var saved: [Int: [UInt8]] = [:]
      for (index, cpu) in cpus.enumerated() where notes.faults[index] == nil {
        saved[cpu.number] = ProcessStatusNote.status(in: try notes.reader(index).copy())
      }
      return saved
    } catch {
      return [:]
    }
  }
}

/// The ELF note in which a CPU saves its registers.
private enum ProcessStatusNote {
  /// Of x86-64's `struct elf_prstatus`; a note's header is three numbers, and its name is filled up to four bytes.
  private static let statusSize = 336, headerSize = 12, name = Array("CORE\0\0\0\0".utf8)
  static let size = headerSize + name.count + statusSize

  /// What stands in it; nil where nothing was saved.
  static func status(in bytes: [UInt8]) -> [UInt8]? {
    let reader = ByteReader(bytes.span.bytes)
    // The name's length with its zero, what follows it, NT_PRSTATUS.
    guard (try? reader.u32(0)) == 5, (try? reader.u32(4)) == UInt32(statusSize), (try? reader.u32(8)) == 1,
      Array(bytes[headerSize...].prefix(name.count)) == name
    else { return nil }
    return Array(bytes[(headerSize + name.count)...])
  }
}
