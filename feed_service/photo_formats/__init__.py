"""Photos without what they tell besides the picture: one file a container, and nothing decoded.

Each file walks its container and copies the parts that it knows to be needed for the picture; it
copies no other. So location, camera, names, texts, thumbnails, further images and all bytes after
the image are left out, and so are kinds of metadata that do not exist yet. The coded pixels are
copied as they are.

No library on PyPI did this in November 2026: Pillow decodes and encodes again, which costs quality
and opens its decoders to strangers; pyexiv2 stands on libexiv2 (GPL); piexif knows neither PNG nor
AVIF, and is not maintained.
"""
