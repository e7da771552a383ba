import KernelInfo
public import Memory
package import Paging

/// Structs that lie beside each other, copied in one piece.
///
/// A class, so that an element of it is no more than an index.
@usableFromInline
package final class StructArray<Shape: KernelShape>: Sendable, RandomAccessCollection {
  @usableFromInline let bound: Bound<Shape>
  // One window that holds all elements: the field of an element is the struct's own, as many bytes further.
  @usableFromInline let window: FieldSelection
  @usableFromInline let record: FieldSelection.Record
  @usableFromInline let batch: ReadBatch<VirtualAddress>
  @usableFromInline let start: VirtualAddress

  @inlinable package var startIndex: Int { 0 }
  @usableFromInline package let endIndex: Int
  @inlinable
  package subscript(index: Int) -> Element { Element(array: self, distance: index * bound.size) }
  /// The struct at `address`, which need not be a whole number of structs from the start.
  @inlinable
  package subscript(at address: VirtualAddress) -> Element {
    Element(array: self, distance: Int(bitPattern: UInt(address.distance(from: start))))
  }

  /// The structs that entry `entry` of `batch`, which has been read, holds.
  ///
  /// - Throws: the fault that its read ended with.
  package init(_ bound: Bound<Shape>, _ entry: Int, of batch: ReadBatch<VirtualAddress>) throws(MemoryFault) {
    let count = try batch.reader(entry).count
    self.bound = bound
    window = bound.selection.spanning(count)
    record = FieldSelection.Record(first: entry)
    self.batch = batch
    start = batch.entries[entry].address
    endIndex = count / Swift.max(bound.size, 1)
  }

  /// One of the structs: its fields by name, each loaded as its declared type.
  @dynamicMemberLookup
  @usableFromInline
  package struct Element: Sendable {
    @usableFromInline let array: StructArray
    // Bytes from the start of the array.
    @usableFromInline let distance: Int

    @inlinable
    init(array: StructArray, distance: Int) {
      self.array = array
      self.distance = distance
    }

    @inlinable
    package var index: Int { distance / Swift.max(array.bound.size, 1) }
    /// What the struct is read as.
    @inlinable
    package var shape: Shape { array.bound.shape }
    @inlinable
    package var address: VirtualAddress { array.start + distance }

    /// The value of a declared field.
    ///
    /// - Throws: ``MemoryFault`` where the bytes end before.
    @inlinable
    package subscript<Value>(dynamicMember path: KeyPath<Shape, Field<Value>>) -> Value {
      get throws(MemoryFault) {
        let place = array.bound.shape[keyPath: path].place.moved(by: distance)
        return try Value.load(place, array.window, array.record, array.batch)
      }
    }
  }
}

extension AddressSpace {
  /// The `count` structs from `address` on.
  ///
  /// - Throws: ``MemoryFault`` where they cannot be read. Cost: a read.
  package func array<Shape>(
    of bound: Bound<Shape>, at address: VirtualAddress, count: Int
  ) throws(MemoryFault) -> StructArray<Shape> {
    var batch = ReadBatch<VirtualAddress>()
    let entry = batch.add(address, count: count * bound.size)
    read(&batch)
    return try StructArray(bound, entry, of: batch)
  }
}
