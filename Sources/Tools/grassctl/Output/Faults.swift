import KernelViews
import Memory

/// Says what could not be read, and ends the command as partial where there was anything.
func reportFaults(_ faults: [MemoryFault]) throws { try reportFaults(faults, as: \.remark) }

/// The same, said in the words of `remark`.
func reportFaults(_ faults: [MemoryFault], as remark: ([MemoryFault]) -> String) throws {
  guard !faults.isEmpty else { return }
  writeNote(remark(faults))
  throw ExitStatus.partial
}
