import CFleetFiles

/// A file of the web page, which this program has with it.
struct FleetFile: Sendable {
  var name: String
  /// Its media type.
  var type: String
  var bytes: [UInt8]

  static let all: [FleetFile] = {
    var count: UInt = 0
    let files = UnsafeBufferPointer(start: fleet_files(&count), count: Int(count))
    return files.map { file in
      FleetFile(
        name: String(cString: file.name), type: String(cString: file.type),
        bytes: Array(UnsafeBufferPointer(start: file.bytes, count: Int(file.count))))
    }
  }()
}
