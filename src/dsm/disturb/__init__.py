"""The paper's idea: disturbances of the scene (``spatial``) and of the motion (``temporal``)."""
