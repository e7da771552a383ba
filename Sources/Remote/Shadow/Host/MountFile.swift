import LinuxKernel
import Memory
import StorageViews
import TaskViews

/// The mounts that a process sees, in the kernel's two formats.
///
/// Source: fs/proc_namespace.c, `show_vfsmnt` and `show_mountinfo`. Of options that a file system prints by code of its own
/// those are missing that ``FileSystemOptions`` does not know.
enum MountFile {
  static func mounts(_ task: KernelTask, _ host: ShadowHost) throws -> [UInt8] {
    var text = ProcText()
    let own = try host.kernel.reader(FileSystemOptions.self).read(host.kernel)
    for mount in try ShadowHost.whole({ try host.kernel.mounts(ofProcess: task.tgid) }).mounts {
      text.add(ProcText.escaped(mount.source, " \t\n\\#"))
      text.add(" ")
      text.add(ProcText.escaped(mount.mountPoint, " \t\n\\"))
      text.add(" ")
      text.add(ProcText.escaped(mount.fileSystem, " \t\n\\#"))
      let isReadOnly = mount.options.first == "ro" || mount.superOptions.first == "ro"
      let options = [isReadOnly ? "ro" : "rw"] + mount.superOptions.dropFirst() + mount.options.dropFirst()
      text.line(" \(options.joined(separator: ","))\(own[mount.major << 20 | mount.minor] ?? "") 0 0")
    }
    return text.bytes
  }

  /// Source: `show_vfsstat`; of network file systems, whose counters are their own, there are none here.
  static func statistics(_ task: KernelTask, _ host: ShadowHost) throws -> [UInt8] {
    var text = ProcText()
    for mount in try ShadowHost.whole({ try host.kernel.mounts(ofProcess: task.tgid) }).mounts {
      let kind = String(decoding: mount.fileSystem, as: UTF8.self)
      guard !["nfs", "nfs4", "cifs", "smb3"].contains(kind) else {
        throw ShadowError.unreadable("the counters of \(kind) are not known")
      }
      text.add("device ")
      text.add(ProcText.escaped(mount.source, " \t\n\\#"))
      text.add(" mounted on ")
      text.add(ProcText.escaped(mount.mountPoint, " \t\n\\"))
      text.add(" with fstype ")
      text.add(ProcText.escaped(mount.fileSystem, " \t\n\\#"))
      text.line("")
    }
    return text.bytes
  }

  static func mountInfo(_ task: KernelTask, _ host: ShadowHost) throws -> [UInt8] {
    var text = ProcText()
    let own = try host.kernel.reader(FileSystemOptions.self).read(host.kernel)
    for mount in try ShadowHost.whole({ try host.kernel.mounts(ofProcess: task.tgid) }).mounts {
      text.add("\(mount.id) \(mount.parentID) \(mount.major):\(mount.minor) ")
      text.add(ProcText.escaped(mount.root, " \t\n\\"))
      text.add(" ")
      text.add(ProcText.escaped(mount.mountPoint, " \t\n\\"))
      text.add(" \(mount.options.joined(separator: ","))")
      if let group = mount.sharedGroup { text.add(" shared:\(group)") }
      if let group = mount.masterGroup { text.add(" master:\(group)") }
      if let group = mount.propagatesFrom { text.add(" propagate_from:\(group)") }
      if mount.isUnbindable { text.add(" unbindable") }
      text.add(" - ")
      text.add(ProcText.escaped(mount.fileSystem, " \t\n\\#"))
      text.add(" ")
      text.add(ProcText.escaped(mount.source, " \t\n\\#"))
      text.line(" \(mount.superOptions.joined(separator: ","))\(own[mount.major << 20 | mount.minor] ?? "")")
    }
    return text.bytes
  }
}
