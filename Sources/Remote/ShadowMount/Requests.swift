import CFuse
import Glibc
import Host
import Shadow
import StorageViews
import Synchronization

/// What libfuse's low-level interface asks, answered from a tree.
///
/// Unsafe pointers of requests stay in this file. Entries and attributes are kept by the system for a moment only, since what they
/// stand for changes by itself.
final class Requests: Sendable {
  private let tree: ShadowTree

  private enum Open {
    case file(ShadowContents)
    case directory([ShadowTree.Listed])
  }

  private struct OpenFiles {
    var files: [UInt64: Open] = [:]
    var next: UInt64 = 1
  }

  private let opened = Mutex(OpenFiles())

  init(_ tree: ShadowTree) { self.tree = tree }

  /// libfuse's table of functions.
  static var operations: fuse_lowlevel_ops {
    var operations = fuse_lowlevel_ops()
    // Who lists processes asks for each of them next: all come with what a look-up would say, not only the first ones.
    operations.`init` = { _, connection in connection?.pointee.want &= ~UInt32(FUSE_CAP_READDIRPLUS_AUTO) }
    operations.lookup = { request, parent, name in
      guard let name else { return }
      let text = String(validatingCString: name)
      Requests.answer(request) { requests throws(ShadowError) in
        guard let text else { throw .missing }
        let found: ShadowTree.Found
        do throws(ShadowError) {
          found = try requests.tree.lookup(text, in: parent, caller: fuse_req_ctx(request).pointee.pid)
        } catch .missing where requests.tree.isEverybodys(parent) {
          // That there is none may be remembered, too: some tools ask for every number in several ways.
          var none = fuse_entry_param()
          none.entry_timeout = ShadowAttributes.lifetime
          fuse_reply_entry(request, &none)
          return
        }
        var entry = Requests.entry(found)
        if fuse_reply_entry(request, &entry) != 0 { requests.tree.forget(found.inode) }
      }
    }
    operations.forget = { request, inode, count in
      Requests.requests(of: request).tree.forget(inode, count: count)
      fuse_reply_none(request)
    }
    operations.forget_multi = { request, count, list in
      let requests = Requests.requests(of: request)
      for item in UnsafeBufferPointer(start: list, count: count) {
        requests.tree.forget(item.ino, count: item.nlookup)
      }
      fuse_reply_none(request)
    }
    operations.getattr = { request, inode, _ in
      Requests.answer(request) { requests throws(ShadowError) in
        var status = Requests.status(inode, try requests.tree.attributes(of: inode))
        fuse_reply_attr(request, &status, 0)
      }
    }
    operations.readlink = { request, inode in
      Requests.answer(request) { requests throws(ShadowError) in
        let target = try requests.tree.target(of: inode, caller: fuse_req_ctx(request).pointee.pid) + [0]
        target.withUnsafeBytes { _ = fuse_reply_readlink(request, $0.assumingMemoryBound(to: CChar.self).baseAddress) }
      }
    }
    operations.open = { request, inode, info in
      guard let info else { return }
      guard info.pointee.flags & O_ACCMODE == O_RDONLY else {
        fuse_reply_err(request, EROFS)
        return
      }
      Requests.answer(request) { requests throws(ShadowError) in
        requests.reply(request, opening: .file(try requests.tree.open(inode)), info)
      }
    }
    operations.read = { request, _, count, offset, info in
      guard let info else { return }
      Requests.answer(request) { requests throws(ShadowError) in
        guard case .file(let contents)? = requests.opened.withLock({ $0.files[grass_fuse_handle(info)] }) else {
          throw .unreadable("the file is not open")
        }
        let bytes = try contents.read(from: Int(offset), count: count)
        bytes.withUnsafeBytes { bytes in
          _ = fuse_reply_buf(request, bytes.assumingMemoryBound(to: CChar.self).baseAddress, bytes.count)
        }
      }
    }
    operations.release = { request, _, info in Requests.closed(request, info) }
    operations.opendir = { request, inode, info in
      guard let info else { return }
      Requests.answer(request) { requests throws(ShadowError) in
        requests.reply(request, opening: .directory(try requests.tree.entries(of: inode)), info)
      }
    }
    operations.readdir = { request, inode, count, offset, info in
      Requests.list(request, inode, from: offset, room: count, info, isWhole: false)
    }
    operations.readdirplus = { request, inode, count, offset, info in
      Requests.list(request, inode, from: offset, room: count, info, isWhole: true)
    }
    operations.releasedir = { request, _, info in Requests.closed(request, info) }
    operations.statfs = { request, inode in
      Requests.answer(request) { requests throws(ShadowError) in
        var values = statvfs()
        (values.f_bsize, values.f_frsize, values.f_namemax) = (4096, 4096, 255)
        if let room = try requests.tree.room(around: inode) {
          (values.f_bsize, values.f_frsize) = (UInt(room.blockSize), UInt(room.blockSize))
          (values.f_blocks, values.f_bfree) = (UInt(room.blocks), UInt(room.freeBlocks))
          (values.f_bavail, values.f_files) = (UInt(room.availableBlocks), UInt(room.files))
          (values.f_ffree, values.f_favail) = (UInt(room.freeFiles), UInt(room.freeFiles))
          values.f_namemax = UInt(room.longestName)
        }
        fuse_reply_statfs(request, &values)
      }
    }
    operations.listxattr = { request, inode, room in
      Requests.answer(request) { requests throws(ShadowError) in
        var names: [UInt8] = []
        for note in try requests.tree.notes(on: inode) { names += Array(note.name.utf8) + [0] }
        Requests.reply(request, names, room: room)
      }
    }
    operations.getxattr = { request, inode, name, room in
      let text = name.flatMap { String(validatingCString: $0) }
      Requests.answer(request) { requests throws(ShadowError) in
        guard let note = try requests.tree.notes(on: inode).first(where: { $0.name == text }) else {
          fuse_reply_err(request, ENODATA)
          return
        }
        Requests.reply(request, note.value, room: room)
      }
    }
    return operations
  }

  private static func requests(of request: fuse_req_t?) -> Requests {
    // The mount holds it as long as its session asks.
    Unmanaged<Requests>.fromOpaque(fuse_req_userdata(request)).takeUnretainedValue()
  }

  /// Runs `body`, which replies; where it throws, its error is the reply.
  private static func answer(_ request: fuse_req_t?, _ body: (Requests) throws(ShadowError) -> Void) {
    do throws(ShadowError) {
      try body(requests(of: request))
    } catch {
      let code =
        switch error {
        case .missing: ENOENT
        case .isDirectory: EISDIR
        case .notDirectory: ENOTDIR
        case .notFollowed: EACCES
        case .denied: EACCES
        case .invalid: EINVAL
        case .noProcess: ESRCH
        case .unreadable: EIO
        }
      fuse_reply_err(request, code)
    }
  }

  private func reply(_ request: fuse_req_t?, opening open: Open, _ info: UnsafeMutablePointer<fuse_file_info>) {
    let handle = opened.withLock { opened in
      let handle = opened.next
      opened.next += 1
      opened.files[handle] = open
      return handle
    }
    grass_fuse_opened(info, handle)
    // One who asked and is gone will not close it.
    if fuse_reply_open(request, info) != 0 { _ = opened.withLock { $0.files.removeValue(forKey: handle) } }
  }

  /// Replies to who asks for bytes and says for how many it has `room`, or by zero that it asks how many there are.
  private static func reply(_ request: fuse_req_t?, _ bytes: [UInt8], room: Int) {
    if room == 0 {
      fuse_reply_xattr(request, bytes.count)
    } else if bytes.count > room {
      fuse_reply_err(request, ERANGE)
    } else {
      bytes.withUnsafeBytes { bytes in
        _ = fuse_reply_buf(request, bytes.assumingMemoryBound(to: CChar.self).baseAddress, bytes.count)
      }
    }
  }

  private static func closed(_ request: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?) {
    if let info {
      let handle = grass_fuse_handle(info)
      _ = requests(of: request).opened.withLock { $0.files.removeValue(forKey: handle) }
    }
    fuse_reply_err(request, 0)
  }

  private static func list(
    _ request: fuse_req_t?, _ inode: UInt64, from offset: off_t, room: Int,
    _ info: UnsafeMutablePointer<fuse_file_info>?,
    isWhole: Bool
  ) {
    guard let info else { return }
    answer(request) { requests throws(ShadowError) in
      guard case .directory(let entries)? = requests.opened.withLock({ $0.files[grass_fuse_handle(info)] }) else {
        throw .notDirectory
      }
      requests.list(request, entries, of: inode, from: Int(clamping: offset), room: room, isWhole: isWhole)
    }
  }

  /// Replies with as many entries as there is room for, the directory itself and what it is in first.
  ///
  /// Where they are to be whole, each comes with what a look-up would say, and counts as one.
  private func list(
    _ request: fuse_req_t?, _ entries: [ShadowTree.Listed], of inode: UInt64, from offset: Int, room: Int, isWhole: Bool
  ) {
    var buffer = [CChar](repeating: 0, count: min(room, 1 << 20))
    let size = buffer.count
    var admitted: [UInt64] = []
    let used = buffer.withUnsafeMutableBufferPointer { buffer in
      var used = 0
      for index in offset..<max(offset, entries.count + 2) {
        let place = buffer.baseAddress.map { $0 + used }
        let (name, kind) =
          index < 2 ? ([".", ".."][index], .directory) : (entries[index - 2].name, entries[index - 2].kind)
        // Of entries nobody has looked up there is no number; zero would pass for a removed entry.
        var entry = fuse_entry_param()
        entry.attr.st_mode = Self.mode(kind)
        entry.attr.st_ino = index == 0 ? UInt(inode) : UInt.max
        let needed: Int
        if isWhole {
          // Its size does not depend on what it says: only what fits is admitted.
          guard fuse_add_direntry_plus(request, nil, 0, name, &entry, 0) <= size - used else { break }
          if index >= 2, let found = tree.admit(entries[index - 2], in: inode) {
            admitted.append(found.inode)
            entry = Self.entry(found)
          }
          needed = fuse_add_direntry_plus(request, place, size - used, name, &entry, off_t(index + 1))
        } else {
          needed = fuse_add_direntry(request, place, size - used, name, &entry.attr, off_t(index + 1))
        }
        guard needed <= size - used else { break }
        used += needed
      }
      return used
    }
    if buffer.withUnsafeBufferPointer({ fuse_reply_buf(request, $0.baseAddress, used) }) != 0 {
      for inode in admitted { tree.forget(inode) }
    }
  }

  private static func entry(_ found: ShadowTree.Found) -> fuse_entry_param {
    var entry = fuse_entry_param()
    entry.ino = found.inode
    entry.attr = status(found.inode, found.attributes)
    let lifetime = found.attributes.isEverybodys ? ShadowAttributes.lifetime : 0
    (entry.entry_timeout, entry.attr_timeout) = (lifetime, lifetime)
    return entry
  }

  private static func mode(_ kind: ShadowAttributes.Kind) -> mode_t {
    switch kind {
    case .directory: S_IFDIR
    case .file: S_IFREG
    case .link: S_IFLNK
    case .pipe: S_IFIFO
    case .socket: S_IFSOCK
    case .characterDevice: S_IFCHR
    case .blockDevice: S_IFBLK
    }
  }

  private static func status(_ inode: UInt64, _ attributes: ShadowAttributes) -> stat {
    var status = stat()
    status.st_ino = UInt(inode)
    status.st_mode = mode(attributes.kind) | mode_t(attributes.permissions)
    status.st_nlink = UInt(attributes.links)
    (status.st_uid, status.st_gid) = (attributes.uid, attributes.gid)
    status.st_size = off_t(clamping: attributes.size)
    status.st_blksize = 4096
    let time = timespec(tv_sec: Int(attributes.time), tv_nsec: 0)
    (status.st_atim, status.st_mtim, status.st_ctim) = (time, time, time)
    if let details = attributes.details {
      status.st_atim = timespec(details.accessed)
      status.st_mtim = timespec(details.modified)
      status.st_ctim = timespec(details.changed)
      status.st_blocks = blkcnt_t(clamping: details.blocks)
      status.st_rdev = grass_device(details.deviceMajor, details.deviceMinor)
    }
    return status
  }
}

extension timespec {
  fileprivate init(_ time: ShadowAttributes.Details.Time) {
    self.init(tv_sec: Int(time.seconds), tv_nsec: Int(time.nanoseconds))
  }
}
