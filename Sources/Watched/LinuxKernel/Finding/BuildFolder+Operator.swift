import Glibc
public import Memory

/// What an operator sees and decides of a folder of builds.
extension BuildFolder {
  /// A build that is kept, as an operator sees it.
  public struct Entry: Hashable, Sendable {
    public let release: String
    /// Empty where it is not known.
    public let buildID: String
    /// Names the build: of its symbols and types.
    public let digest: String
    /// Of its file, in bytes.
    public let size: Int
    /// Whether its tables may stand in for those of any boot and host of the build.
    public let isApproved: Bool
    /// Of how many boots that are kept it was proven.
    public let boots: Int
  }

  /// The builds that are kept, by release; of one that is kept and approved, the approved one.
  ///
  /// Cost: each is read, some 10 MB.
  public func entries() -> [Entry] {
    let known = Dictionary(grouping: knownBoots(), by: \.build).mapValues(\.count)
    var seen: Set<String> = []
    return [true, false].flatMap { isApproved in
      files(ofApproved: isApproved).compactMap { path in
        build(path).map { build in
          Entry(
            release: build.release, buildID: build.buildID, digest: "\(build.digest)", size: build.file.count,
            isApproved: isApproved, boots: known[build.digest] ?? 0)
        }
      }
    }.filter { seen.insert($0.digest).inserted }
      .sorted { ($0.release, $0.digest) < ($1.release, $1.digest) }
  }

  /// Vouches for the build in `layouts`: the memory of a host that is trusted, or a vendor's kernel file.
  ///
  /// - Returns: the build as it is kept now.
  /// - Throws: ``KernelError`` where no kernel is found, ``BuildFolderError`` where it cannot be written. Cost: that of finding
  ///   a kernel, and of writing some 10 MB.
  public func approve(_ layouts: [any PhysicalMemory]) throws -> Entry {
    let kernel = try KernelFinder(layouts: layouts, known: nil).find()
    let build = try KnownBuild(of: kernel)
    try approve(build)
    return try entry(of: "\(build.digest)")
  }

  /// Vouches for a build that is kept already.
  ///
  /// - Parameter prefix: the beginning of its digest.
  /// - Returns: the build as it is kept now.
  /// - Throws: ``BuildFolderError`` where none or several begin so, or where it cannot be written.
  public func approve(digest prefix: String) throws -> Entry {
    let entry = try entry(of: prefix)
    if let digest = MemoryDigest(entry.digest), !entry.isApproved, let build = build(digest) { try approve(build) }
    return try self.entry(of: entry.digest)
  }

  /// Removes a build, and that it was vouched for.
  ///
  /// - Parameter prefix: the beginning of its digest.
  /// - Returns: what was removed.
  /// - Throws: ``BuildFolderError`` where none or several begin so, or where it cannot be removed.
  public func forget(digest prefix: String) throws -> Entry {
    let entry = try entry(of: prefix)
    for path in files(ofApproved: true) + files(ofApproved: false)
    where build(path).map({ "\($0.digest)" }) == entry.digest {
      guard unlink(path) == 0 || errno == ENOENT else { throw BuildFolderError(path, .system(errno)) }
    }
    return entry
  }

  /// The builds that were vouched for.
  package func approvedBuilds() -> [KnownBuild] { files(ofApproved: true).compactMap { build($0) } }

  private func entry(of prefix: String) throws(BuildFolderError) -> Entry {
    let found = entries().filter { $0.digest.hasPrefix(prefix) }
    guard let entry = found.first, found.count == 1 else {
      throw BuildFolderError(path, found.isEmpty ? .noBuild(prefix) : .severalBuilds(prefix, found.map(\.digest)))
    }
    return entry
  }
}
