"""
Files, images, sounds and videos as input: parts that stand for a path, and the reading of these files.

No Airflow: paths are opened by a function that is passed in.
"""

from airflow_provider_responses.content.parts import InputAudio, InputFile, InputImage, InputVideo

__all__ = ["InputAudio", "InputFile", "InputImage", "InputVideo"]
