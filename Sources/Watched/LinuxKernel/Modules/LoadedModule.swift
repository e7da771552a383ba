package import Memory

/// What a module has in its `struct module`.
package struct LoadedModule: Sendable {
  package var name: [UInt8]
  package var address: VirtualAddress
  /// Its parts of memory, code first; those that are empty are left out.
  package var parts: [Range<UInt64>]
  /// Its `struct mod_kallsyms`.
  package var tables: VirtualAddress
  /// The symbols that it offers to all others: an array of `struct kernel_symbol`.
  package var exports: VirtualAddress
  package var exportCount: UInt64

  package init(
    name: [UInt8], address: VirtualAddress, parts: [Range<UInt64>], tables: VirtualAddress, exports: VirtualAddress,
    exportCount: UInt64
  ) {
    self.name = name
    self.address = address
    self.parts = parts
    self.tables = tables
    self.exports = exports
    self.exportCount = exportCount
  }
}
