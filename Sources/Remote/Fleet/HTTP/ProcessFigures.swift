import Glibc

/// What this process takes, as every exporter tells it: <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.
struct ProcessFigures {
  /// User and system time.
  var processorSeconds: Double
  /// In bytes.
  var resident: UInt64
  var virtual: UInt64
  var openFiles: Int
  var mostFiles: UInt64
  /// Since 1970, in seconds.
  var started: Double

  /// Reads them; nil where /proc does not tell.
  ///
  /// Cost: a listing of this process's files.
  init?() {
    // Behind the name, which may hold anything, from the third field on: proc(5).
    guard let text = Self.contents("/proc/self/stat"), let end = text.lastIndex(of: ")") else { return nil }
    let fields = text[text.index(after: end)...].split(separator: " ")
    guard fields.count > 21, let user = Double(fields[11]), let system = Double(fields[12]),
      let start = Double(fields[19]), let virtual = UInt64(fields[20]), let resident = UInt64(fields[21]),
      let boot = Self.contents("/proc/stat")?.split(separator: "\n").first(where: { $0.hasPrefix("btime ") })
        .flatMap({ Double($0.dropFirst(6)) })
    else { return nil }
    let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
    (processorSeconds, started) = ((user + system) / ticks, boot + start / ticks)
    (self.virtual, self.resident) = (virtual, resident * UInt64(sysconf(Int32(_SC_PAGESIZE))))
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    mostFiles = UInt64(limit.rlim_cur)
    openFiles = 0
    if let folder = opendir("/proc/self/fd") {
      while readdir(folder) != nil { openFiles += 1 }
      closedir(folder)
      // Itself, its parent, and the one by which it was listed.
      openFiles -= 3
    }
  }

  private static func contents(_ path: String) -> String? {
    let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 65536)
    while bytes.count < 1 << 20 {
      let count = read(file, &piece, piece.count)
      guard count > 0 else { break }
      bytes += piece[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
