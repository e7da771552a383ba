import Binding
package import KernelInfo
package import Memory
package import Paging

/// What is read of `file`, and of the `inode` and file system behind it.
package struct OpenFileFields: Sendable {
  private struct File: KernelShape {
    static let type = "file"
    let mount = Field<VirtualAddress>("f_path.mnt")
    let dentry = Field<VirtualAddress>("f_path.dentry")
    let inode = Field<VirtualAddress>("f_inode")
    let flags = Field<UInt64>("f_flags")
    let position = Field<Int64>("f_pos")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let number = Field<UInt64>("i_ino")
    let superBlock = Field<VirtualAddress>("i_sb")
    let size = Field<Int64>("i_size")
    let mode = Field<UInt64>("i_mode")
    let links = Field<UInt64>("i_nlink")
  }

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let device = Field<UInt64>("s_dev")
  }

  private let file: Bound<File>, inode: Bound<Inode>, superBlock: Bound<SuperBlock>

  package init(_ types: TypeTable) throws(KernelInfoError) {
    (file, inode, superBlock) = try types.bind()
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
    let files = space.read(file, at: distinct)
    let inodes = space.read(inode, at: files.pointers(\.inode))
    let supers = space.read(superBlock, at: inodes.pointers(\.superBlock))
    let names = paths.names(
      of: zip(files.pointers(\.mount), files.pointers(\.dentry)).map { FilePath(mount: $0, dentry: $1) }, in: space)
    var found: [VirtualAddress: Result<Opened, MemoryFault>] = [:]
    for file in files {
      let inode = inodes[file.index]
      do throws(MemoryFault) {
        _ = try file.mount
        found[file.address] = .success(
          Opened(
            name: try names[file.index].get(), inode: try inode.number, device: try supers[file.index].device,
            size: try inode.size, mode: try inode.mode, links: try inode.links, flags: try file.flags,
            position: try file.position))
      } catch {
        found[file.address] = .failure(error)
      }
    }
    return addresses.map { found[$0] }
  }
}
