import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import StorageViews

/// The options of file systems that modules may bring, whose structs only the modules' types tell: ext4, FAT, overlays, autofs, FUSE.
///
/// A kernel that keeps no types of modules (5.10) shows them without these options.
///
/// Source: fs/ext4/super.c, `_ext4_show_options`; fs/fat/inode.c, `fat_show_options`; fs/overlayfs/params.c, `ovl_show_options`;
/// fs/autofs/inode.c, `autofs_show_options`; fs/fuse/inode.c, `fuse_show_options`.
struct ModuleFileSystems {
  let kernel: Kernel

  /// What is known of a file system already.
  struct System {
    /// Its `s_fs_info`.
    var own: VirtualAddress
    var flags: UInt64
    var hasDisk: Bool
    var blockSize: UInt64
    var root: InodeStatus?
  }

  func options(of name: [UInt8], _ system: System) throws -> String? {
    switch String(decoding: name, as: UTF8.self) {
    case "ext2", "ext3", "ext4": try bound(Ext4.self).map { try ext4($0, system, isOld: name == Array("ext2".utf8)) }
    case "vfat", "msdos": try bound(FAT.self).map { try fat($0, system) }
    case "overlay": try bound(Overlay.self).map { try overlay($0, system) }
    case "autofs": try bound(AutoMount.self).map { try autoMount($0, system) }
    case "fuse", "fuseblk": try bound(FuseMount.self).map { try fuse($0, system) }
    default: nil
    }
  }

  private func bound<Shape: KernelShape>(_ type: Shape.Type) -> Bound<Shape>? { try? kernel.moduleBound(type) }

  private func read<Shape>(_ shape: Bound<Shape>, _ address: VirtualAddress) -> Reading<Shape> {
    kernel.addressSpace.read(shape, at: [address])[0]
  }

  // MARK: ext4

  private struct Ext4: KernelShape {
    static let type = "ext4_sb_info"
    let options = Field<UInt32>("s_mount_opt"), more = Field<UInt32>("s_mount_opt2")
    let usual = Field<UInt32>("s_def_mount_opt"), block = Field<UInt64>("s_sb_block")
    let uid = Field<UInt32>("s_resuid.val"), gid = Field<UInt32>("s_resgid.val"), disk = Field<VirtualAddress>("s_es")
    let commit = Field<UInt64>("s_commit_interval"), least = Field<UInt32>("s_min_batch_time")
    let most = Field<UInt32>("s_max_batch_time"), stripe = Field<UInt64>("s_stripe")
    let ahead = Field<UInt32>("s_inode_readahead_blks"), wait = Field<UInt32>("s_li_wait_mult")
    let largest = Field<UInt32>("s_max_dir_size_kb"), groups = Field<UInt32>("s_groups_count")
    let quota = Field<Int32>(optional: "s_jquota_fmt"), quotaNames = Place(optional: "s_qf_names")
  }

  private struct Ext4Disk: KernelShape {
    static let type = "ext4_super_block"
    let uid = Field<UInt16>("s_def_resuid"), gid = Field<UInt16>("s_def_resgid"), errors = Field<UInt16>("s_errors")
  }

  /// Options that are one or several bits (EXT4_MOUNT_*, from fs/ext4/ext4.h), in the order of `ext4_mount_opts`: shown
  /// where they are another than the file system's own, by what they are then.
  private static let ext4Bits: [(bits: UInt32, set: Bool, name: String)] = [
    (0x80, true, "minixdf"), (0x80, false, "bsddf"), (0x4, true, "grpid"), (0x4, false, "nogrpid"),
    (0x2000_0000, true, "block_validity"), (0x2000_0000, false, "noblock_validity"),
    (0x40_0000, true, "dioread_nolock"), (0x40_0000, false, "nodioread_nolock"), (0x4000_0000, true, "discard"),
    (0x4000_0000, false, "nodiscard"), (0x800_0000, true, "delalloc"), (0x800_0000, false, "nodelalloc"),
    (0x200_0000, true, "warn_on_error"), (0x200_0000, false, "nowarn_on_error"),
    (0x80_0000, false, "nojournal_checksum"), (0x80_0000, true, "journal_checksum"),
    (0x180_0000, true, "journal_async_commit"), (0x100, true, "norecovery"), (0x2_0000, true, "barrier"),
    (0x2_0000, false, "nobarrier"), (0x1_0000, true, "noauto_da_alloc"), (0x1_0000, false, "auto_da_alloc"),
    (0x8000_0000, false, "noinit_itable"), (0x4000, true, "user_xattr"), (0x8000, true, "acl"),
    (0x2000, true, "nouid32"), (0x8, true, "debug"), (0xc_0000, true, "quota"), (0xc_0000, true, "usrquota"),
    (0x14_0000, true, "grpquota"), (0x24_0000, true, "prjquota"), (0x3c_0000, false, "noquota"),
    (0x1, true, "nombcache"), (0x400_0000, true, "no_prefetch_block_bitmaps"),
  ]

  private func ext4(_ shape: Bound<Ext4>, _ system: System, isOld: Bool) throws -> String {
    let own = read(shape, system.own)
    let disk = read(try kernel.moduleBound(Ext4Disk.self), try own.disk)
    let (options, more, usual) = (try own.options, try own.more, try own.usual)
    var text = ""
    func add(_ option: String) { text += "," + option }
    if try own.block != 1 { add("sb=\(try own.block)") }
    for (bits, set, name) in Self.ext4Bits where bits & (options ^ usual) != 0 {
      if set ? options & bits == bits : options & bits == 0 { add(name) }
    }
    // EXT4_DEF_RESUID and EXT4_DEF_RESGID are root.
    if try own.uid != 0 || disk.uid != 0 { add("resuid=\(try own.uid)") }
    if try own.gid != 0 || disk.gid != 0 { add("resgid=\(try own.gid)") }
    // EXT4_ERRORS_CONTINUE, EXT4_ERRORS_RO, EXT4_ERRORS_PANIC.
    for (bit, number, name) in [(0x20, 2, "remount-ro"), (0x10, 1, "continue"), (0x40, 3, "panic")] {
      if options & UInt32(bit) != 0, try disk.errors != number { add("errors=\(name)") }
    }
    let ticks = try kernel.ticksPerSecond()
    if try own.commit != 5 * ticks { add("commit=\(try own.commit / ticks)") }
    if try own.least != 0 { add("min_batch_time=\(try own.least)") }
    if try own.most != 15000 { add("max_batch_time=\(try own.most)") }
    // Everybody's since 5.20; an option of the file system's own before (SB_I_VERSION).
    if system.flags >> 23 & 1 != 0, try kernel.releaseNumbers() < (6, 0) { add("i_version") }
    if try own.stripe != 0 { add("stripe=\(try own.stripe)") }
    if (options ^ usual) & 0xc00 != 0 {
      let names: [UInt32: String] = [0x400: "journal", 0x800: "ordered", 0xc00: "writeback"]
      if let name = names[options & 0xc00] { add("data=\(name)") }
    }
    if try own.ahead != 32 { add("inode_readahead_blks=\(try own.ahead)") }
    if options & 0x8000_0000 != 0, try own.wait != 10 { add("init_itable=\(try own.wait)") }
    if try own.largest != 0 { add("max_dir_size_kb=\(try own.largest)") }
    if options & 0x1000_0000 != 0 { add("data_err=abort") }
    // SB_INLINECRYPT.
    if system.flags >> 17 & 1 != 0 { add("inlinecrypt") }
    if options & 0x200 != 0 {
      add(isOld ? "dax" : "dax=always")
    } else if more & 0x20 != 0 {
      add("dax=never")
    } else if more & 0x40 != 0 {
      add("dax=inode")
    }
    // EXT4_MOUNT2_MB_OPTIMIZE_SCAN, since 5.13; of file systems with fewer groups it is off by itself.
    if try kernel.releaseNumbers() >= (5, 13) {
      let (isOn, isLarge) = (more & 0x80 != 0, try own.groups >= 16)
      if isOn != isLarge { add("mb_optimize_scan=\(isOn ? 1 : 0)") }
    }
    // QFMT_VFS_OLD, QFMT_VFS_V0, QFMT_VFS_V1.
    let formats: [Int32: String] = [1: "vfsold", 2: "vfsv0", 4: "vfsv1"]
    if try own.quota != 0 { add("jqfmt=\(formats[try own.quota] ?? "")") }
    if shape.shape.quotaNames.isPresent {
      let places = try kernel.addressSpace.pointers(inArrayAt: own.address(of: \.quotaNames), count: 2)
      for (label, place) in zip(["usrjquota", "grpjquota"], places) where place.rawValue != 0 {
        add("\(label)=\(try value(place))")
      }
    }
    return text
  }

  // MARK: FAT

  private struct FAT: KernelShape {
    static let type = "msdos_sb_info"
    let uid = Field<UInt32>("options.fs_uid.val"), gid = Field<UInt32>("options.fs_gid.val")
    let files = Field<UInt16>("options.fs_fmask"), directories = Field<UInt16>("options.fs_dmask")
    let times = Field<UInt16>("options.allow_utime"), page = Field<VirtualAddress?>("nls_disk")
    let set = Field<VirtualAddress?>("nls_io"), hasLongNames = Field<Bool>("options.isvfat")
    let short = Field<UInt16>("options.shortname"), check = Field<UInt8>("options.name_check")
    let errors = Field<UInt8>("options.errors"), nfs = Field<UInt8>("options.nfs")
    let offset = Field<Int16>("options.time_offset"), hasZone = Field<Bool>("options.tz_set")
    let usesFree = Field<Bool>("options.usefree"), isQuiet = Field<Bool>("options.quiet")
    let showsPrograms = Field<Bool>("options.showexec"), isImmutable = Field<Bool>("options.sys_immutable")
    let hasDots = Field<Bool>("options.dotsOK"), ignoresCase = Field<Bool>("options.nocase")
    let isUTF8 = Field<Bool>("options.utf8"), translates = Field<Bool>("options.unicode_xlate")
    let hasTails = Field<Bool>("options.numtail"), isFixed = Field<Bool>("options.rodir")
    let flushes = Field<Bool>("options.flush"), discards = Field<Bool>("options.discard")
    let isFloppy = Field<Bool>("options.dos1xfloppy")
  }

  private struct CharacterSet: KernelShape {
    static let type = "nls_table"
    let name = Field<VirtualAddress>("charset")
  }

  private func fat(_ shape: Bound<FAT>, _ system: System) throws -> String {
    let own = read(shape, system.own)
    var text = ""
    func add(_ option: String) { text += "," + option }
    func flag(_ isSet: Bool, _ option: String) { if isSet { add(option) } }
    func octal(_ mode: UInt16) -> String { ProcText.padded(String(mode, radix: 8), 4, "0") }
    func name(_ set: VirtualAddress) throws -> String {
      String(
        decoding: try kernel.addressSpace.strings(at: [kernel.read(CharacterSet.self, at: [set])[0].name])[0].get(),
        as: UTF8.self)
    }
    if try own.uid != 0 { add("uid=\(try own.uid)") }
    if try own.gid != 0 { add("gid=\(try own.gid)") }
    add("fmask=\(octal(try own.files))")
    add("dmask=\(octal(try own.directories))")
    if try own.times != 0 { add("allow_utime=\(octal(try own.times))") }
    // Without the letters "cp" before the number.
    if let page = try own.page { add("codepage=\(try name(page).dropFirst(2))") }
    let hasLongNames = try own.hasLongNames
    if hasLongNames {
      if let set = try own.set { add("iocharset=\(try name(set))") }
      // VFAT_SFN_*, from fs/fat/fat.h.
      let kinds: [UInt16: String] = [0x102: "win95", 0x204: "winnt", 0x104: "mixed", 0x101: "lower"]
      add("shortname=\(kinds[try own.short] ?? "unknown")")
    }
    let check = try own.check
    if check != UInt8(ascii: "n") { add("check=\(Character(UnicodeScalar(check)))") }
    flag(try own.usesFree, "usefree")
    flag(try own.isQuiet, "quiet")
    flag(try own.showsPrograms, "showexec")
    flag(try own.isImmutable, "sys_immutable")
    if hasLongNames {
      flag(try own.isUTF8, "utf8")
      flag(try own.translates, "uni_xlate")
      flag(try !own.hasTails, "nonumtail")
      flag(try own.isFixed, "rodir")
    } else {
      flag(try own.hasDots, "dotsOK=yes")
      flag(try own.ignoresCase, "nocase")
    }
    flag(try own.flushes, "flush")
    if try own.hasZone { add(try own.offset != 0 ? "time_offset=\(try own.offset)" : "tz=UTC") }
    // FAT_ERRORS_CONT, FAT_ERRORS_PANIC; FAT_NFS_STALE_RW, FAT_NFS_NOSTALE_RO.
    add("errors=\([1: "continue", 2: "panic"][try own.errors] ?? "remount-ro")")
    if let kind = [1: "stale_rw", 2: "nostale_ro"][try own.nfs] { add("nfs=\(kind)") }
    flag(try own.discards, "discard")
    flag(try own.isFloppy, "dos1xfloppy")
    return text
  }

  // MARK: Overlays

  private struct Overlay: KernelShape {
    static let type = "ovl_fs"
    // A list of them since 6.5, of which the first is what was asked for.
    let lowers = Field<VirtualAddress?>(optional: "config.lowerdirs")
    let lower = Field<VirtualAddress>(optional: "config.lowerdir")
    let upper = Field<VirtualAddress?>("config.upperdir"), work = Field<VirtualAddress>("config.workdir")
    let checks = Field<Bool>("config.default_permissions"), redirects = Field<UInt64>("config.redirect_mode")
    let hasIndex = Field<Bool>("config.index"), identity = Field<Int32>(optional: "config.uuid")
    let isExported = Field<Bool>("config.nfs_export"), numbers = Field<Int32>("config.xino")
    let hasDescriptions = Field<Bool>("config.metacopy"), isVolatile = Field<Bool>(optional: "config.ovl_volatile")
    let hasUserAttributes = Field<Bool>(optional: "config.userxattr"),
      proofs = Field<Int32>(optional: "config.verity_mode")
    let ownNumbers = Field<Int32>("xino_mode"), layers = Field<UInt32>("numlayer")
    let dataLayers = Field<UInt32>(optional: "numdatalayer")
  }

  /// A text as the value of an option.
  ///
  /// Source: include/linux/seq_file.h, `seq_show_option`.
  private func value(_ place: VirtualAddress) throws -> String {
    let bytes = try kernel.addressSpace.strings(at: [place], limit: 4096)[0].get()
    return String(decoding: ProcText.escaped(bytes, ", \t\n\\"), as: UTF8.self)
  }

  private func overlay(_ shape: Bound<Overlay>, _ system: System) throws -> String {
    let own = read(shape, system.own)
    var text = ""
    func add(_ option: String) { text += "," + option }
    if let list = try own.lowers {
      let count = Int(min(512, try own.layers)), dataCount = Int(min(512, try own.dataLayers))
      let names = try kernel.addressSpace.pointers(inArrayAt: list, count: max(1, count))
      if names[0].rawValue != 0 {
        add("lowerdir=\(try value(names[0]))")
      } else {
        for index in 1..<max(1, count) {
          add("\(index < count - dataCount ? "lowerdir" : "datadir")+=\(try value(names[index]))")
        }
      }
    } else {
      add("lowerdir=\(try value(own.lower))")
    }
    if let upper = try own.upper { add("upperdir=\(try value(upper)),workdir=\(try value(own.work))") }
    if try own.checks { add("default_permissions") }
    let parameters = try parameters()
    func isOn(_ name: String) -> Bool { parameters[name] ?? false }
    let word = { (isOn: Bool) in isOn ? "on" : "off" }
    if shape.shape.lowers.isPresent {
      // OVL_REDIRECT_*, from fs/overlayfs/ovl_entry.h.
      let usual: UInt64 = isOn("redirect_dir") ? 3 : isOn("redirect_always_follow") ? 1 : 2
      let mode = try own.redirects
      if mode != usual { add("redirect_dir=\(["off", "follow", "nofollow", "on"][safe: Int(clamping: mode)] ?? "")") }
    } else {
      let mode = try value(VirtualAddress(own.redirects))
      let usual = isOn("redirect_dir") ? "on" : "off"
      if mode != usual { add("redirect_dir=\(mode)") }
    }
    if try own.hasIndex != isOn("index") { add("index=\(word(try own.hasIndex))") }
    if shape.shape.identity.isPresent {
      let identity = try own.identity
      // OVL_UUID_*; a switch until 6.6.
      if try kernel.releaseNumbers() >= (6, 6) {
        if identity != 2 { add("uuid=\(["off", "null", "auto", "on"][safe: Int(identity)] ?? "")") }
      } else if identity == 0 {
        add("uuid=off")
      }
    }
    if try own.isExported != isOn("nfs_export") { add("nfs_export=\(word(try own.isExported))") }
    // OVL_XINO_*; where all layers are one file system there is nothing to choose.
    let numbers = try own.numbers
    if numbers != (isOn("xino_auto") ? 1 : 0), try own.ownNumbers != 0 {
      add("xino=\(["off", "auto", "on"][safe: Int(numbers)] ?? "")")
    }
    if try own.hasDescriptions != isOn("metacopy") { add("metacopy=\(word(try own.hasDescriptions))") }
    if try own.isVolatile { add("volatile") }
    if try own.hasUserAttributes { add("userxattr") }
    // OVL_VERITY_*.
    if let proof = [1: "on", 2: "require"][try own.proofs] { add("verity=\(proof)") }
    return text
  }

  private struct Parameter: KernelShape {
    static let type = "kernel_param"
    let name = Field<VirtualAddress>("name"), value = Field<VirtualAddress>("arg")
  }

  /// The switches that the overlay's module was given.
  private func parameters() throws -> [String: Bool] {
    var faults: [MemoryFault] = []
    let table = try kernel.table(of: Parameter.self, section: "___param", modules: "kp", "num_kp", &faults)
    let name = Array("overlay".utf8)
    let own = table.structs.filter { table.modules[$0.index] == name }
    let names = kernel.addressSpace.strings(at: try own.map { try $0.name })
    var switches: [String: Bool] = [:]
    // Some are functions' and have no place.
    for (parameter, name) in zip(own, names) where try parameter.value.rawValue != 0 {
      switches[String(decoding: try name.get(), as: UTF8.self)] =
        try kernel.addressSpace.load(parameter.value, as: UInt8.self) != 0
    }
    return switches
  }

  // MARK: Mounts made when somebody looks

  private struct AutoMount: KernelShape {
    static let type = "autofs_sb_info"
    let pipe = Field<Int32>("pipefd"), group = Field<VirtualAddress>("oz_pgrp"), life = Field<UInt64>("exp_timeout")
    let least = Field<Int32>("min_proto"), most = Field<Int32>("max_proto"), kind = Field<UInt32>("type")
    let flags = Field<UInt32>(optional: "flags"), file = Field<VirtualAddress?>("pipe")
  }

  private func autoMount(_ shape: Bound<AutoMount>, _ system: System) throws -> String {
    let own = read(shape, system.own)
    var text = ",fd=\(try own.pipe)"
    if let root = system.root {
      if root.uid != 0 { text += ",uid=\(root.uid)" }
      if root.gid != 0 { text += ",gid=\(root.gid)" }
    }
    let group = try own.group
    let number: Int32 =
      group.rawValue == 0
      ? 0
      : try kernel.addressSpace.load(
        group + kernel.offset(of: "numbers", in: "pid") + kernel.offset(of: "nr", in: "upid"))
    text +=
      ",pgrp=\(number),timeout=\(try own.life / kernel.ticksPerSecond()),minproto=\(try own.least),maxproto=\(try own.most)"
    // AUTOFS_TYPE_OFFSET and AUTOFS_TYPE_DIRECT.
    let kind = try own.kind
    text += kind & 4 != 0 ? ",offset" : kind & 2 != 0 ? ",direct" : ",indirect"
    // AUTOFS_SBI_STRICTEXPIRE and AUTOFS_SBI_IGNORE.
    let flags = try own.flags
    if flags & 2 != 0 { text += ",strictexpire" }
    if flags & 4 != 0 { text += ",ignore" }
    // CONFIG_CHECKPOINT_RESTORE.
    if kernel.symbols.address(of: "proc_timers_operations") != nil {
      guard let file = try own.file else { return text + ",pipe_ino=-1" }
      let inode = try kernel.pointers("f_inode", of: "file", at: [file])[0]
      text +=
        ",pipe_ino=\(try kernel.addressSpace.load(inode + kernel.offset(of: "i_ino", in: "inode"), as: UInt64.self))"
    }
    return text
  }

  // MARK: File systems of programs

  private struct FuseMount: KernelShape {
    static let type = "fuse_mount"
    let connection = Field<VirtualAddress>("fc")
  }

  private struct FuseConnection: KernelShape {
    static let type = "fuse_conn"
    let isShown = Field<Bool>("legacy_opts_show"), uid = Field<UInt32>("user_id.val"),
      gid = Field<UInt32>("group_id.val")
    let checks = Field<Bool>("default_permissions"), isOpen = Field<Bool>("allow_other")
    let largest = Field<UInt32>("max_read")
  }

  private func fuse(_ shape: Bound<FuseMount>, _ system: System) throws -> String {
    let own = read(try kernel.moduleBound(FuseConnection.self), try read(shape, system.own).connection)
    guard try own.isShown else { return "" }
    var text = ",user_id=\(try own.uid),group_id=\(try own.gid)"
    if try own.checks { text += ",default_permissions" }
    if try own.isOpen { text += ",allow_other" }
    if try own.largest != .max { text += ",max_read=\(try own.largest)" }
    // FUSE_DEFAULT_BLKSIZE.
    if system.hasDisk, system.blockSize != 512 { text += ",blksize=\(system.blockSize)" }
    return text
  }
}
