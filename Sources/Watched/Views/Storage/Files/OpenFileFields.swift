package import Binding
package import KernelInfo
package import Memory
package import Paging

/// What is read of `file`, and of the `inode` and file system behind it.
package struct OpenFileFields: Sendable {
  package typealias Field = FieldSelection.Field
  private let file: FieldSelection
  private let mount, dentry, inode, flags, position: Field
  private let node: FieldSelection
  private let number, superBlock, size, mode, links: Field
  private let superSelection: FieldSelection
  private let device: Field

  package init(_ types: TypeTable) throws(KernelInfoError) {
    var fields = FieldSelection(try types.structure("file"))
    mount = try fields.want("f_path.mnt")
    dentry = try fields.want("f_path.dentry")
    inode = try fields.want("f_inode")
    flags = try fields.want("f_flags")
    position = try fields.want("f_pos")
    file = fields
    fields = FieldSelection(try types.structure("inode"))
    number = try fields.want("i_ino")
    superBlock = try fields.want("i_sb")
    size = try fields.want("i_size")
    mode = try fields.want("i_mode")
    links = try fields.want("i_nlink")
    node = fields
    fields = FieldSelection(try types.structure("super_block"))
    device = try fields.want("s_dev")
    superSelection = fields
  }

  package struct Opened: Sendable {
    package var name: FileName
    package var inode: UInt64
    package var device: UInt64
    package var size: Int64
    package var mode: UInt64
    package var links: UInt64
    package var flags: UInt64
    package var position: Int64
  }

  /// The files at `addresses`; nil for a null pointer. Cost: three round trips and those of the names.
  package func read(
    _ addresses: [VirtualAddress], paths: PathReader, in space: AddressSpace
  ) -> [Result<Opened, MemoryFault>?] {
    // Many processes have the same files open.
    let distinct = Array(Set(addresses.filter { $0.rawValue != 0 }))
    let reads = space.read(file, at: distinct)
    func pointers(_ reads: StructReads, _ field: Field) -> [VirtualAddress] {
      reads.indices.map { (try? reads.pointer($0, field)) ?? VirtualAddress(0) }
    }
    let nodes = space.read(node, at: pointers(reads, inode))
    let supers = space.read(superSelection, at: pointers(nodes, superBlock))
    let (mounts, dentries) = (pointers(reads, mount), pointers(reads, dentry))
    let names = paths.names(
      of: reads.indices.map { FilePath(mount: mounts[$0], dentry: dentries[$0]) }, in: space)
    var found: [VirtualAddress: Result<Opened, MemoryFault>] = [:]
    for (index, address) in distinct.enumerated() {
      do throws(MemoryFault) {
        _ = try reads.pointer(index, mount)
        found[address] = .success(
          Opened(
            name: try names[index].get(), inode: try nodes.load(index, number),
            device: try supers.load(index, device), size: try nodes.signed(index, size),
            mode: try nodes.load(index, mode), links: try nodes.load(index, links),
            flags: try reads.load(index, flags), position: try reads.signed(index, position)))
      } catch {
        found[address] = .failure(error)
      }
    }
    return addresses.map { found[$0] }
  }
}
