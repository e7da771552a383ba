package import Memory
package import Paging

/// The wanted fields of many structs of one kind, read as one batch.
package struct StructReads: Sendable {
  package typealias Field = FieldSelection.Field
  private let selection: FieldSelection
  private let records: [FieldSelection.Record]
  private let batch: ReadBatch<VirtualAddress>
  package let addresses: [VirtualAddress]

  package var indices: Range<Int> { records.indices }

  fileprivate init(_ selection: FieldSelection, _ addresses: [VirtualAddress], in space: AddressSpace) {
    var batch = ReadBatch<VirtualAddress>()
    records = addresses.map { selection.add(to: &batch, at: $0) }
    if !addresses.isEmpty { space.read(&batch) }
    self.batch = batch
    self.selection = selection
    self.addresses = addresses
  }

  /// The value of `field` of struct `index`: sign-extended where its type is signed.
  package func load(_ index: Int, _ field: Field) throws(MemoryFault) -> UInt64 {
    try selection.load(field, records[index], batch)
  }

  package func signed(_ index: Int, _ field: Field) throws(MemoryFault) -> Int64 {
    try selection.signed(field, records[index], batch)
  }

  package func pointer(_ index: Int, _ field: Field) throws(MemoryFault) -> VirtualAddress {
    try selection.pointer(field, records[index], batch)
  }

  /// The bytes of `field` up to the first zero.
  package func string(_ index: Int, _ field: Field) throws(MemoryFault) -> [UInt8] {
    try selection.string(field, records[index], batch)
  }

  /// The 64-bit elements of the array `field`.
  package func words(_ index: Int, _ field: Field) throws(MemoryFault) -> [UInt64] {
    try selection.words(field, records[index], batch).map { UInt64(bitPattern: $0) }
  }
}

extension AddressSpace {
  /// Reads `selection` of the structs at `addresses`.
  ///
  /// Cost: one batch.
  package func read(_ selection: FieldSelection, at addresses: [VirtualAddress]) -> StructReads {
    StructReads(selection, addresses, in: self)
  }
}
