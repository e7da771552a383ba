import Foundation
import Glibc
import Lab
import Testing

extension GuestTests.ShadowTests {
  /// Files by their paths: what the guest says of them, and what the shadow's root shows.
  @Test(arguments: guests)
  func filesByPathAreTheGuests(_ kind: GuestOptions) throws {
    let guest = try SharedGuests.shared.guest(kind)
    let said = try guest.run(Self.makeFiles)
    try #require(said.status == 0, "\(said.text)")
    defer { _ = try? guest.run("umount /tmp/fat /tmp/laid/over; rm -r /tmp/by-path /tmp/fat /tmp/fat.image /tmp/laid") }
    // Kernels whose modules were fetched before directories were laid over others.
    let hasOverlays = try guest.run(Self.layOver).status == 0
    let trees = "/tmp/by-path /bin /etc /init /modules" + (hasOverlays ? " /tmp/laid/over" : "")
    let status = try guest.run("find \(trees) -exec stat -c '%f %u %g %s %h %Y %Z %b %n' {} +").text
    let links = try guest.run("for f in $(find \(trees) -type l); do echo $f $(readlink $f); done").text
    let sums = try guest.run("find \(trees) -type f -exec sha256sum {} +").text
    // What is left of a file in the page cache: its first pages, which are read again.
    let fat = try guest.run(
      """
      sync; sha256sum /tmp/fat/numbers | cut -c 1-64; echo 3 > /proc/sys/vm/drop_caches
      dd if=/tmp/fat/numbers bs=4096 count=1 2> /dev/null | sha256sum | cut -c 1-64
      """
    ).text.split(separator: "\n").map(String.init)
    // What the caches have forgotten of what was laid over is looked up again.
    let mounts = try guest.run(
      "find /tmp/laid -type f -exec cat {} + > /dev/null 2>&1; grep -E 'vfat|overlay' /proc/mounts; grep -E 'vfat|overlay' /proc/self/mountinfo"
    ).text
    #expect(mounts.split(separator: "\n").count == (hasOverlays ? 4 : 2))
    try guest.pause()
    defer { try? guest.resume() }
    try MountedShadow.with(["--memory", guest.memoryPath]) { shadow in
      let shown = try ["mounts", "mountinfo"].map { name in
        try String(contentsOfFile: "\(shadow.path)/proc/1/\(name)", encoding: .utf8).split(separator: "\n")
          .filter { $0.contains("vfat") || $0.contains("overlay") }.map { $0 + "\n" }.joined()
      }
      #expect(shown.joined() == mounts)
      let root = shadow.path + "/root"
      var compared = 0
      for line in status.split(separator: "\n") {
        let words = line.split(separator: " ", maxSplits: 8).map(String.init)
        let own = try #require(FileStatus(root + words[8]), "\(line)")
        #expect(own.text == words[..<8].joined(separator: " "), "\(words[8])")
        compared += 1
      }
      #expect(compared > 300)
      for line in links.split(separator: "\n") {
        let words = line.split(separator: " ").map(String.init)
        var target = [CChar](repeating: 0, count: 4096)
        let count = readlink(root + words[0], &target, target.count)
        #expect(String(decoding: target.prefix(max(0, count)).map(UInt8.init(bitPattern:)), as: UTF8.self) == words[1])
      }
      for line in sums.split(separator: "\n") {
        let name = String(line.dropFirst(66))
        #expect(try Self.sum(root + name) == line.prefix(64), "\(name)")
        #expect(try Self.note("missing", on: root + name).isEmpty, "\(name)")
      }
      let names = try FileManager.default.contentsOfDirectory(atPath: root + "/tmp/by-path").sorted()
      #expect(names.contains("second") && names.contains("with blanks") && names.count == 13, "\(names)")
      #expect(try Self.note("complete", on: root + "/tmp/by-path") == "yes")
      #expect(try Self.note("complete", on: root + "/proc") == "no")
      // A file that is made when it is read, and links, which lead nowhere.
      #expect(open(root + "/proc/version", O_RDONLY) == -1 && (errno == EIO || errno == ENOENT))
      for link in ["outside", "above", "inside/x"] {
        #expect(open(root + "/tmp/by-path/" + link, O_RDONLY) == -1 && errno == ELOOP, "\(link)")
      }
      try Self.checkHoles(root + "/tmp/fat/numbers", fat)
      var room = statvfs()
      #expect(statvfs(root + "/tmp", &room) == 0 && room.f_blocks > 1000 && room.f_bfree < room.f_blocks)
    }
  }

  private static let makeFiles = """
    mkdir -p /tmp/by-path/deep/er; cd /tmp/by-path
    seq 1 200000 > numbers; cat numbers numbers numbers numbers > large; dd if=numbers of=sparse bs=4096 count=3 seek=700 2> /dev/null
    ln -s deep inside; ln -s /etc/modules outside; ln -s ../../../../../../etc/modules above
    ln -s $(seq -s / 1 300) long; echo x > deep/x; ln numbers second; mkfifo pipe; mknod null c 1 3; > empty
    echo text > "with blanks"; chown 12:34 sparse; chmod 4751 second; touch -d '2001-02-03 04:05:06' deep
    for m in loop nls_cp437 nls_ascii fat vfat; do insmod /modules/$m.ko 2> /dev/null; done
    dd if=/dev/zero of=/tmp/fat.image bs=1M count=16 2> /dev/null; mkdosfs /tmp/fat.image || exit 1
    mkdir /tmp/fat; mount -t vfat -o loop /tmp/fat.image /tmp/fat || exit 1
    cat large > /tmp/fat/numbers
    """

  /// A directory over another: files of either, one that was copied up when it was written to, one that was made, one that is gone.
  private static let layOver = """
    [ -e /modules/overlay.ko ] || exit 1; [ -e /sys/module/overlay ] || insmod /modules/overlay.ko || exit 1
    mkdir -p /tmp/laid/lower/deep /tmp/laid/upper /tmp/laid/work /tmp/laid/over; cd /tmp/laid
    seq 1 30000 > lower/large; echo small > lower/changed; echo gone > lower/gone; echo x > lower/deep/x; ln -s deep/x lower/link
    mount -t overlay over -o lowerdir=lower:/etc,upperdir=upper,workdir=work over || exit 1
    echo more >> over/changed; echo new > over/deep/new; rm over/gone; find over > /dev/null; sha256sum over/large over/link
    """

  /// A file of a disk of which the first pages are in memory.
  private static func checkHoles(_ path: String, _ sums: [String]) throws {
    try #require(sums.count == 2)
    let missing = try note("missing", on: path)
    let line = try #require(missing.split(separator: "\n").first)
    let words = line.split(separator: " ", maxSplits: 1)
    #expect(words.count == 2 && words[1] == "not cached", "\(missing)")
    let first = try #require(words[0].split(separator: "-").first.flatMap { Int($0) })
    let size = try #require(FileStatus(path)?.size)
    // As much as was read ahead.
    #expect(first >= 4096 && first < size && missing.contains("-\(size - 1) "), "\(missing)")
    let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
    let bytes = try #require(try file.read(upToCount: 4096))
    #expect(try sum(bytes) == sums[1])
    // What there is before the first byte that is missing, and then an error.
    try file.seek(toOffset: UInt64(first - 100))
    var buffer = [UInt8](repeating: 0, count: 4096)
    #expect(read(file.fileDescriptor, &buffer, 4096) == 100)
    #expect(read(file.fileDescriptor, &buffer, 4096) == -1 && errno == EIO)
  }

  private static func sum(_ path: String) throws -> String {
    try String(runProgram("sha256sum", [path], environment: [:]).prefix(64))
  }

  private static func sum(_ bytes: Data) throws -> String {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("grass-bytes-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: file) }
    try bytes.write(to: file)
    return try sum(file.path)
  }

  /// The extended attribute `user.grass.NAME`.
  private static func note(_ name: String, on path: String) throws -> String {
    try runProgram(
      "python3",
      ["-c", "import os, sys; sys.stdout.write(os.getxattr(sys.argv[1], sys.argv[2]).decode())"]
        + [path, "user.grass." + name])
  }
}

/// What stat(2) says of a file, as busybox's `stat` prints it; when it was read last is left out, since that moves it.
private struct FileStatus {
  let text: String
  let size: Int

  init?(_ path: String) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return nil }
    size = status.st_size
    let numbers = [
      Int(status.st_uid), Int(status.st_gid), status.st_size, Int(status.st_nlink), status.st_mtim.tv_sec,
      status.st_ctim.tv_sec, status.st_blocks,
    ]
    text = String(status.st_mode, radix: 16) + numbers.map { " \($0)" }.joined()
  }
}
