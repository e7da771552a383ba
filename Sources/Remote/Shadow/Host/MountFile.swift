import LinuxKernel
import Memory
import StorageViews
import TaskViews

/// The mounts that a process sees, in the kernel's two formats.
///
/// Source: fs/proc_namespace.c, `show_vfsmnt` and `show_mountinfo`. Of options that a file system prints by code of its own
/// those are missing that ``FileSystemOptions`` does not know.
enum MountFile {
  /// A file that all processes of one namespace and one root share: what goes through all of /proc has it made once.
  private static func shared(
    _ name: String, _ task: KernelTask, _ host: ShadowHost, _ make: () throws -> [UInt8]
  ) throws -> [UInt8] {
    let leader = try host.thread(task.tgid)
    let space = try host.kernel.pointers("nsproxy", of: "task_struct", at: [leader.task.address])[0]
    guard space.rawValue != 0, let root = try leader.details.get().root else { return try make() }
    let namespace = try host.kernel.pointers("mnt_ns", of: "nsproxy", at: [space])[0]
    return try host.text(.init(places: [namespace, root.mount, root.dentry], name: name), make)
  }

  static func mounts(_ task: KernelTask, _ host: ShadowHost) throws -> [UInt8] {
    try shared("mounts", task, host) { try mounts(ofProcess: task.tgid, host) }
  }

  private static func mounts(ofProcess pid: Int32, _ host: ShadowHost) throws -> [UInt8] {
    var text = ProcText()
    let own = try host.kernel.reader(FileSystemOptions.self).read(host.kernel)
    for mount in try ShadowHost.whole({ try host.kernel.mounts(ofProcess: pid) }).mounts {
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
    try shared("mountstats", task, host) { try statistics(ofProcess: task.tgid, host) }
  }

  private static func statistics(ofProcess pid: Int32, _ host: ShadowHost) throws -> [UInt8] {
    var text = ProcText()
    for mount in try ShadowHost.whole({ try host.kernel.mounts(ofProcess: pid) }).mounts {
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
    try shared("mountinfo", task, host) { try mountInfo(ofProcess: task.tgid, host) }
  }

  private static func mountInfo(ofProcess pid: Int32, _ host: ShadowHost) throws -> [UInt8] {
    var text = ProcText()
    let own = try host.kernel.reader(FileSystemOptions.self).read(host.kernel)
    for mount in try ShadowHost.whole({ try host.kernel.mounts(ofProcess: pid) }).mounts {
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
