import Memory

/// Says what could not be read, and ends the command as partial where there was anything.
func reportFaults(_ faults: [MemoryFault]) throws {
  guard let first = faults.first else { return }
  writeNote(
    faults.count == 1
      ? "a part could not be read: \(first)" : "\(faults.count) parts could not be read, for example: \(first)")
  throw ExitStatus.partial
}
