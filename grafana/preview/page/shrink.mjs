// node shrink.mjs PICTURE WHOLE TOP HEIGHT: the picture in 256 colours, and its uppermost HEIGHT pixels beside it
import sharp from "sharp";

const [picture, whole, top, height] = process.argv.slice(2);
const small = { palette: true, colours: 256, effort: 10, compressionLevel: 9 };
const { width } = await sharp(picture).metadata();
await sharp(picture).png(small).toFile(whole);
await sharp(picture).extract({ left: 0, top: 0, width, height: Number(height) }).png(small).toFile(top);
