public import Acquisition
import Crypto
public import Keys
import Memory

/// An image in a store: what it is of, when it was taken, and the root of its tree of pages.
///
/// The file `images/ID`, where ID is SHA-256 of the record:
/// ```
/// u64 size of the record, then the record
/// u8 1 where it is signed, else 0; 32 bytes the Ed25519 public key, 64 bytes its signature; zeros where it is not signed
/// ```
/// The signature is over "grass image 1", a zero, and the 32 bytes of the ID. The record has numbers of eight bytes, little
/// endian, and bytes and lists behind a number that counts them:
/// ```
/// "GRASSIMG"
/// the plan: what the image is of, when it was begun, its memory, the classes of frames, the kernel (`ImagePlan`)
/// the host's name, when it was ended, root, level of the root
/// how many images were taken before it; bytes: of memory in it, unread, read of the memory, of digests that travelled, appended to the store, found from before
/// lines KEY=VALUE
/// 1 where it was held against the memory, else 0: then how often, the instant in milliseconds since 1970, how many pages are of it, how
/// many are not, and which (`MovedFrames`)
/// ```
public struct StoredImage: Sendable {
  /// What it is called in the store: SHA-256 of its record.
  public let id: ObjectName
  /// The root of its pages: the same for the same memory.
  public let root: ObjectName
  /// The level of the root.
  let height: Int
  /// Of which host, as the store was told.
  public let host: String
  /// Which kernel and boot, and what was to be left out.
  public let identity: String
  /// When it was begun and ended, by the clock of who took it: `2027-01-31T12:30:00Z`.
  public let began: String
  public let ended: String
  /// What memory it has, with the classes of frames and what is known of the kernel.
  public let contents: ImageContents
  public let counts: Counts
  /// Its place in the order in which the store's images were taken.
  let number: UInt64
  /// Lines KEY=VALUE.
  public let note: [String]
  /// How much of it is of one instant; nil where nobody looked.
  public let consistency: ImageConsistency?
  /// Whose signature is beside it, and the signature: whether it holds, ``isSignatureValid`` says.
  public let signer: CertifierKey?
  let signature: [UInt8]
  /// SHA-256 of its plan: what its digests are bound to.
  let planDigest: [UInt8]

  /// Bytes, counted.
  public struct Counts: Hashable, Sendable {
    /// Of memory in the image.
    public var memory: UInt64 = 0
    /// That could not be read.
    public var unread: UInt64 = 0
    /// That were read of the memory for it.
    public var read: UInt64 = 0
    /// Of digests that travelled for it.
    public var digests: UInt64 = 0
    /// By which the store grew.
    public var stored: UInt64 = 0
    /// That an earlier run of the same had read.
    public var resumed: UInt64 = 0

    var all: [UInt64] { [memory, unread, read, digests, stored, resumed] }
  }

  private static let magic: UInt64 = 0x474d_4953_5341_5247  // "GRASSIMG"
  private static let domain = Array("grass image 1\0".utf8)
  private static let trailerSize = 1 + 32 + 64
  /// No file of an image is longer: the classes of the frames of a host with 64 TiB in disorder take less.
  static let limit = 1 << 30

  /// The bytes of a file.
  static func file(
    plan: ImagePlan, host: String, ended: String, root: ObjectName, height: Int, number: UInt64, counts: Counts,
    note: [String], consistency: ImageConsistency?, signer: CertifierIdentity?
  ) throws(StoreError) -> (id: ObjectName, bytes: [UInt8]) {
    var record = PlanWriter()
    record.add(magic)
    record.add(plan.bytes)
    record.add(Array(host.utf8))
    record.add(Array(ended.utf8))
    record.add(root.bytes)
    record.add(UInt64(height))
    record.add(number)
    for count in counts.all { record.add(count) }
    record.add(Array(note.joined(separator: "\n").utf8))
    record.add(consistency == nil ? 0 : 1)
    if let consistency {
      for number in [
        UInt64(consistency.rounds), consistency.instant, consistency.settled, consistency.movedCount,
      ] { record.add(number) }
      record.add(MovedFrames(consistency.moved).record)
    }
    let id = ObjectName(SHA256.hash(data: record.bytes))
    var trailer = [UInt8](repeating: 0, count: trailerSize)
    if let signer {
      do throws(KeyError) {
        trailer = [1] + signer.publicKey.bytes + (try signer.sign(domain + id.bytes))
      } catch {
        throw StoreError(error)
      }
    }
    var file = PlanWriter()
    file.add(record.bytes)
    return (id, file.bytes + trailer)
  }

  /// Parses a file's bytes, which may be anybody's.
  ///
  /// - Throws: ``StoreError`` where they are not those of the image that the file is named after.
  init(_ bytes: [UInt8], named name: String, path: String) throws(StoreError) {
    func damaged(_ what: String) -> StoreError { StoreError(path, .damaged(what)) }
    do {
      var file = PlanReader(bytes)
      let record = try file.bytes()
      let trailer = Array(bytes[min(record.count + 8, bytes.count)...])
      id = ObjectName(SHA256.hash(data: record))
      guard "\(id)" == name else { throw damaged("its record is not the one that it is named after") }
      guard trailer.count == Self.trailerSize else { throw damaged("its end is missing, or there is more") }
      switch trailer[0] {
      case 0:
        guard trailer.allSatisfy({ $0 == 0 }) else { throw damaged("its signature was changed") }
        (signer, signature) = (nil, [])
      case 1: (signer, signature) = (try CertifierKey(bytes: trailer[1..<33]), Array(trailer[33...]))
      default: throw damaged("its signature was changed")
      }
      var reader = PlanReader(record)
      guard try reader.number() == Self.magic else { throw damaged("it is of another version") }
      let planBytes = try reader.bytes()
      guard let plan = ImagePlan(planBytes) else { throw damaged("its plan cannot be read") }
      (identity, began, contents) = (plan.identity, plan.began, plan.contents)
      planDigest = Array(SHA256.hash(data: planBytes))
      host = try reader.text()
      ended = try reader.text()
      let root = try reader.bytes()
      guard root.count == ObjectName.size else { throw damaged("its root is none") }
      self.root = root.withUnsafeBytes { ObjectName(raw: $0) }
      height = Int(clamping: try reader.number())
      guard height == ImageTree.height(end: contents.end) else { throw damaged("its root is of another level") }
      number = try reader.number()
      counts = Counts(
        memory: try reader.number(), unread: try reader.number(), read: try reader.number(),
        digests: try reader.number(), stored: try reader.number(), resumed: try reader.number())
      note = try reader.text().split(separator: "\n").map(String.init)
      // Images of before that was looked at end here.
      guard !reader.isAtEnd, try reader.number() == 1 else {
        consistency = nil
        return
      }
      var found = ImageConsistency(
        rounds: Int(clamping: try reader.number()), instant: try reader.number(), settled: try reader.number(),
        movedCount: try reader.number())
      guard let moved = MovedFrames(record: try reader.bytes()) else { throw damaged("its moved pages cannot be read") }
      found.moved = moved.runs
      consistency = found
    } catch let error as StoreError {
      throw error
    } catch {
      throw damaged("\(error)")
    }
  }

  /// Whether the key beside it signed it; nil where there is none.
  public var isSignatureValid: Bool? { signer?.hasSigned(Self.domain + id.bytes, signature) }
}

extension ImageContents {
  /// Where its memory ends.
  var end: UInt64 { runs.last.map { $0.start.rawValue + $0.count } ?? 0 }
}
