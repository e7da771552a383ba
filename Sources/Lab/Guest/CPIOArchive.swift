/// A cpio archive in the `newc` format, which the kernel unpacks as its first root file system.
///
/// Each entry: `070701`, 13 numbers of 8 hex digits, the name with a zero, padding to 4 bytes, the content, padding to 4.
/// Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
struct CPIOArchive {
  private(set) var bytes: [UInt8] = []
  private var inode: UInt32 = 1

  mutating func addDirectory(_ path: String) { add(path, mode: 0o040755, content: []) }
  mutating func addFile(_ path: String, _ content: [UInt8], executable: Bool = false) {
    add(path, mode: executable ? 0o100755 : 0o100644, content: content)
  }
  mutating func addLink(_ path: String, to target: String) { add(path, mode: 0o120777, content: Array(target.utf8)) }
  mutating func addCharacterDevice(_ path: String, major: UInt32, minor: UInt32) {
    add(path, mode: 0o020600, content: [], device: (major, minor))
  }

  /// The archive with its end marker.
  func finished() -> [UInt8] {
    var archive = self
    archive.add("TRAILER!!!", mode: 0, content: [])
    return archive.bytes
  }

  private mutating func add(_ path: String, mode: UInt32, content: [UInt8], device: (UInt32, UInt32) = (0, 0)) {
    let name = Array(path.utf8) + [0]
    let fields: [UInt32] = [
      inode, mode, 0, 0, 1, 0, UInt32(content.count), 0, 0, device.0, device.1, UInt32(name.count), 0,
    ]
    inode += 1
    bytes += Array("070701".utf8)
    for field in fields {
      let digits = String(field, radix: 16)
      bytes += Array((String(repeating: "0", count: 8 - digits.count) + digits).utf8)
    }
    bytes += name
    pad()
    bytes += content
    pad()
  }

  private mutating func pad() { while bytes.count % 4 != 0 { bytes.append(0) } }
}
