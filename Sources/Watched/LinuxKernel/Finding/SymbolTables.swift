package import KernelInfo
package import Memory

/// Where a kernel's kallsyms tables lie in physical memory.
package struct SymbolTables: Sendable {
  package var names: PhysicalAddress
  package var namesLength: Int
  package var tokens: PhysicalAddress
  package var tokensLength: Int
  package var tokenIndex: PhysicalAddress
  /// How many symbols they have.
  package var count: Int
  package var offsets: PhysicalAddress
  /// The run-time address of the offsets, from which they count where there is no base; zero where it is not known.
  package var offsetsAddress = VirtualAddress(0)
  package var relativeBase: UInt64?

  /// Reads and decodes them, in the encoding that gives the symbol `anchor` the address `expected`.
  ///
  /// - Throws: ``KernelInfoError`` and ``MemoryFault``. Cost: one batch of some 3 MB.
  package func decode(_ memory: SearchedMemory, anchor: String, at expected: VirtualAddress) throws -> SymbolTable {
    var batch = ReadBatch<PhysicalAddress>()
    let names = batch.add(names, count: namesLength)
    let tokens = batch.add(tokens, count: tokensLength)
    let index = batch.add(tokenIndex, count: 512)
    let offsets = batch.add(offsets, count: 4 * count)
    memory.read(&batch)
    let decoder = KallsymsDecoder(
      names: try KernelInfoError.reader(batch, names, "kallsyms_names"),
      tokenTable: try KernelInfoError.reader(batch, tokens, "kallsyms_token_table"),
      tokenIndex: try KernelInfoError.reader(batch, index, "kallsyms_token_index"),
      offsets: try KernelInfoError.reader(batch, offsets, "kallsyms_offsets"),
      offsetsAddress: offsetsAddress, relativeBase: relativeBase, count: count)
    return try decoder.decode(anchor: anchor, at: expected)
  }
}
